"""``@task.burla_postgres`` and ``@task.burla_transform``: process the rows of a table with the decorated function.

``burla_table.pyi`` has the types of all parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from burla_provider.decorators.table_operators import (
    BurlaPostgresDecoratedOperator,
    BurlaTransformDecoratedOperator,
    decorate,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskDecorator


def burla_postgres_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """Process every row of a table with the decorated function, in parallel on Burla, and combine the results exactly.

    The function is ``process_rows`` of :class:`~burla_provider.operators.postgres.BurlaPostgresOperator`: its first
    parameter gets the rows of a range, and it returns a dict. ``kwargs`` are the other parameters of the operator. A
    call of the task gives the other arguments of the function, as ``op_kwargs``. The result is one dict. With
    ``multiple_outputs=True``, each key is also an XCom of its own.
    """
    return decorate(python_callable, multiple_outputs, BurlaPostgresDecoratedOperator, kwargs)


def burla_transform_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """Call the decorated function on every row of a table, in parallel on Burla, and write the rows that it returns.

    The first parameter of the function gets a row, as ``map_row`` of
    :class:`~burla_provider.operators.transform.BurlaPostgresTransformOperator`. With ``batch_size`` or
    ``batch_format``, it gets a batch, as ``map_batch``. ``kwargs`` are the other parameters of the operator. A call of
    the task gives the other arguments of the function, as ``op_kwargs``. The result is one dict of numbers. With
    ``multiple_outputs=True``, each number is also an XCom of its own.
    """
    return decorate(python_callable, multiple_outputs, BurlaTransformDecoratedOperator, kwargs)
