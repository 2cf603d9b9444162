"""Python code that calls a user's function, for a person to paste."""

from __future__ import annotations

import inspect
import keyword
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burla_provider.worker.user_function import UserFunction

_DAG_MODULE = "unusual_prefix_"
"""Airflow's prefix of the names of modules that are DAG files."""


class FunctionCode:
    """Collects the parts of the code. It imports the function from its module, and has no values of its arguments.

    :param parameter: the operator's parameter that has the function, which names a lambda.
    :param function: the function with its arguments.
    :ivar imports: lines with import statements.
    """

    def __init__(self, parameter: str, function: UserFunction) -> None:
        self.imports: list[str] = []
        self._setup: list[str] = []
        self._folder = ""
        self._name = self._import(function.function, parameter)
        arguments = [f"{label!r}: ..." for label in function.arguments]
        if arguments:
            self._setup.append(f"arguments = {{{', '.join(arguments)}}}  # the values of op_kwargs")
        for label, make in function.init.items():
            name = self._import(make.func, label)  # type: ignore[attr-defined]
            given = ", ".join(f"{key}=..." for key in make.keywords)  # type: ignore[attr-defined]
            self._setup.append(f"init_{label} = {name}({given})")
        self._others = [f"{label}=init_{label}" for label in function.init]
        if arguments:
            self._others.append("**arguments")
        if function.is_class:
            self._setup.append(f"function = {self._name}({', '.join(self._others)})")
            self._name, self._others = "function", []

    def call(self, *arguments: str) -> str:
        """Return a call of the function with these arguments, besides its own. Empty ones are left out."""
        return f"{self._name}({', '.join([*filter(None, arguments), *self._others])})"

    def plain(self, lines: Sequence[str]) -> str:
        """Return the code, which ends with these lines."""
        where = [f"# Run this where Airflow runs{self._folder}."]
        return "\n".join([*where, *_sorted(self.imports), "", *self._setup, *lines, ""])

    def with_cursor(self, conn_id: str, query: str, lines: Sequence[str]) -> str:
        """Return the code, whose last lines use ``cursor``, which has executed the query."""
        self.imports.append("from airflow.providers.postgres.hooks.postgres import PostgresHook")
        opened = [
            f"cursor = PostgresHook(postgres_conn_id={conn_id!r}).get_conn().cursor()",
            f"cursor.execute({query})",
        ]
        return self.plain([*opened, *lines])

    def with_psycopg(
        self, conn_id: str, lines: Sequence[str], *, before: Sequence[str] = (), rolls_back: bool = False
    ) -> str:
        """Return the code, whose last lines use ``connection``, in a transaction.

        :param before: lines before the transaction.
        :param rolls_back: keep nothing that the function writes.
        """
        # PostgresHook may return a connection of psycopg2. This one is always of psycopg, with the same parameters.
        self.imports.append("from burla_provider.hooks.postgres import open_hook_connection")
        transaction = f"transaction({'force_rollback=True' if rolls_back else ''})"
        opened = f"with open_hook_connection({conn_id!r}) as connection, connection.{transaction}:"
        return self.plain([*before, opened, *(f"    {line}" for line in lines)])

    def _import(self, function: Any, fallback: str) -> str:
        """Add the import of a function, and return the expression that is the function."""
        name = getattr(function, "__name__", fallback)
        if not name.isidentifier() or keyword.iskeyword(name):  # a lambda
            name = fallback
        module = _module_name(function)
        if module == "builtins":
            return str(name)
        if module is None:
            self._setup.append(f"# Paste the code of {name} here: it cannot be imported.")
            return str(name)
        self.imports.append(f"from {module} import {name}")
        path = _source_file(function)
        if path and path.stem == module and not self._folder:
            self._folder = f", in the folder of {path.name}"
        return f"{name}.function" if _is_decorated(function) else str(name)


def _module_name(function: Any) -> str | None:
    """Return the name by which a person can import the module of the function; None if that is impossible."""
    name, qualified = getattr(function, "__name__", None), getattr(function, "__qualname__", None)
    module = getattr(function, "__module__", None)
    if module is None or name is None or name != qualified or not name.isidentifier():
        return None
    if not module.startswith(_DAG_MODULE) and module != "__main__":
        return str(module)
    path = _source_file(function)
    return path.stem if path and path.stem.isidentifier() else None


def _source_file(function: Any) -> Path | None:
    try:
        return Path(inspect.getsourcefile(function) or "")
    except (TypeError, OSError):  # built in, or a class whose module is gone
        return None


def _is_decorated(function: Callable[..., Any]) -> bool:
    """Return whether the function's name in its module is the decorated task, as with @task.burla."""
    found = getattr(sys.modules.get(function.__module__), function.__name__, None)
    return found is not None and found is not function and callable(getattr(found, "function", None))


def _sorted(imports: Sequence[str]) -> list[str]:
    return sorted(dict.fromkeys(imports))
