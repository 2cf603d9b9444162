"""The types of the decorators for tables, for editors and type checkers: ``burla_provider/decorators/burla_table.pyi``.

They are those of the operators. ``python -m tests.support.decorator_stub`` writes the file again.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from burla_provider.decorators import burla_table, table_operators
from burla_provider.operators.base import BurlaBaseOperator

PATH = Path(burla_table.__file__).with_suffix(".pyi")
GIVEN = {"self", "kwargs", "process_rows", "process_range", "totals", "map_row", "map_batch", "op_kwargs"}
"""Parameters of the operators that a decorator does not have."""
HEADER = '''"""Written by ``python -m tests.support.decorator_stub``, from the signatures of the operators."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeVar

from airflow.sdk.bases.decorator import Task

'''
DECORATOR = """
_Result = TypeVar("_Result")

class TableTaskDecorator(Protocol):
    # The workers give some of the function's parameters, so that those of a call are not checked.
    def __call__(self, python_callable: Callable[..., _Result], /) -> Task[..., _Result]: ...

"""
MODULES = {
    "burla_provider.task.config": ("BatchFormat", "Consistency", "RowFormat", "Split"),
    "burla_provider.task.failure_policy": ("OnFailure",),
    "burla_provider.task.resume": ("Resume",),
    "burla_provider.task.transform_config": ("WriteMode",),
}
"""Modules that define types of parameters."""


def make_stub() -> str:
    """Return the text of the file."""
    functions = [
        _declare("burla_postgres_task", table_operators.BurlaPostgresDecoratedOperator),
        _declare("burla_transform_task", table_operators.BurlaTransformDecoratedOperator),
    ]
    text = "".join(functions)
    used = {module: [name for name in names if re.search(rf"\b{name}\b", text)] for module, names in MODULES.items()}
    imports = [f"from {module} import {', '.join(names)}\n" for module, names in used.items() if names]
    return "".join([HEADER, *imports, DECORATOR, text])


def _declare(name: str, operator: type) -> str:
    types = [
        f"    {parameter.name}: {parameter.annotation}{'' if parameter.default is parameter.empty else ' = ...'},\n"
        for parameter in _parameters(operator)
    ]
    end = "    multiple_outputs: bool | None = ...,\n    **kwargs: Any,\n) -> TableTaskDecorator: ...\n"
    return "".join([f"def {name}(\n    *,\n", *types, end]).replace("'", '"')


def _parameters(operator: type) -> Iterator[inspect.Parameter]:
    """Yield the parameters of an operator and of its base classes in this package."""
    for base in operator.__mro__[: operator.__mro__.index(BurlaBaseOperator) + 1]:
        if "__init__" in vars(base) and "decorator" not in base.__module__:
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            yield from (parameter for parameter in parameters if parameter.name not in GIVEN)


if __name__ == "__main__":
    PATH.write_text(make_stub())
