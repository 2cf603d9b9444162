"""The types of the decorators, for editors and type checkers: ``burla.pyi`` and ``burla_table.pyi``.

They are those of the operators. ``python -m tests.support.decorator_stub`` writes the files again.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from burla_provider.decorators import burla, burla_table, table_operators
from burla_provider.operators.base import BurlaBaseOperator
from burla_provider.operators.map import BurlaMapOperator

MAP = Path(burla.__file__).with_suffix(".pyi")
TABLE = Path(burla_table.__file__).with_suffix(".pyi")
GIVEN = {"self", "kwargs", "process_rows", "process_range", "totals", "map_row", "map_batch", "op_kwargs"}
"""Parameters of the operators that a decorator does not have."""
HEADER = '''"""Written by ``python -m tests.support.decorator_stub``, from the signatures of the operators."""

'''
IMPORTS = {
    "collections.abc": ("Callable", "Mapping", "Sequence"),
    "datetime": ("timedelta",),
    "typing": ("Any", "Literal", "Protocol", "TypeVar", "overload"),
    "airflow.sdk.bases.decorator": ("Task",),
    "burla_provider.task.config": ("BatchFormat", "Consistency", "RowFormat", "Split"),
    "burla_provider.task.failure_policy": ("OnFailure",),
    "burla_provider.task.resume": ("Resume",),
    "burla_provider.task.transform_config": ("WriteMode",),
}
"""Modules and their names that types of parameters use."""
TABLE_DECORATOR = """
_Result = TypeVar("_Result")

class TableTaskDecorator(Protocol):
    # The workers give some of the function's parameters, so that those of a call are not checked.
    def __call__(self, python_callable: Callable[..., _Result], /) -> Task[..., _Result]: ...

"""
MAP_DECORATOR = """
_Result = TypeVar("_Result")

class MapTaskDecorator(Protocol):
    # A call gives a list of items in place of the item, so that the arguments are not checked.
    def __call__(self, python_callable: Callable[..., _Result], /) -> Task[..., list[_Result]]: ...

@overload
def burla_task(python_callable: Callable[..., _Result], /) -> Task[..., list[_Result]]: ...
@overload
"""


def make_table_stub() -> str:
    """Return the text of ``burla_table.pyi``."""
    operators = {
        "burla_postgres_task": table_operators.BurlaPostgresDecoratedOperator,
        "burla_transform_task": table_operators.BurlaTransformDecoratedOperator,
    }
    # The task has several XComs if the user asks for it.
    end = "    multiple_outputs: bool | None = ...,\n    **kwargs: Any,\n) -> TableTaskDecorator: ...\n"
    return _put_together(TABLE_DECORATOR, *(_declare(*item, GIVEN, end) for item in operators.items()))


def make_map_stub() -> str:
    """Return the text of ``burla.pyi``."""
    given = {*GIVEN, "python_callable", "inputs"}
    end = "    **kwargs: Any,\n) -> MapTaskDecorator: ...\n"
    return _put_together(MAP_DECORATOR, _declare("burla_task", BurlaMapOperator, given, end))


def _put_together(*parts: str) -> str:
    text = "".join(parts)
    used = {module: [name for name in names if re.search(rf"\b{name}\b", text)] for module, names in IMPORTS.items()}
    groups: dict[str, str] = {}
    for module, names in used.items():
        if names:
            group = module.partition(".")[0]
            group = group if group in ("airflow", "burla_provider") else "standard library"
            groups[group] = groups.get(group, "") + f"from {module} import {', '.join(names)}\n"
    return HEADER + "\n".join(groups.values()) + text


def _declare(name: str, operator: type, given: set[str], end: str) -> str:
    types = [
        f"    {parameter.name}: {parameter.annotation}{'' if parameter.default is parameter.empty else ' = ...'},\n"
        for parameter in _parameters(operator, given)
    ]
    return "".join([f"def {name}(\n    *,\n", *types, end]).replace("'", '"')


def _parameters(operator: type, given: set[str]) -> Iterator[inspect.Parameter]:
    """Yield the parameters of an operator and of its base classes in this package."""
    for base in operator.__mro__[: operator.__mro__.index(BurlaBaseOperator) + 1]:
        if "__init__" in vars(base) and "decorator" not in base.__module__:
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            yield from (parameter for parameter in parameters if parameter.name not in given)


if __name__ == "__main__":
    TABLE.write_text(make_table_stub())
    MAP.write_text(make_map_stub())
