"""``@task.burla``: call a function of the DAG file on every item of its first argument.

``burla.pyi`` has the types of all parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import task_decorator_factory

from burla_provider.decorators.map_operator import BurlaDecoratedOperator
from burla_provider.task.validation import check_decorated, check_single_output

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskDecorator


def burla_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """Call the decorated function on every item of its first argument, in parallel on Burla.

    The task returns the list of results, in the order of the items. The other arguments of the function are the same
    for all calls. ``kwargs`` are the parameters of :class:`~burla_provider.operators.map.BurlaMapOperator`.

    :raises InvalidParameterError: if ``multiple_outputs`` is true: the result is a list, which has no keys. If
        ``kwargs`` has the arguments of the call.
    """
    check_single_output(multiple_outputs)
    check_decorated(kwargs)
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=False,  # otherwise Airflow infers it from ``-> dict``, the return type of a single call
        decorated_operator_class=BurlaDecoratedOperator,
        **kwargs,
    )
