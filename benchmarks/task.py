"""The task of a side, and its result. Standard library only: the interpreters of all sides import this module."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote


@dataclass(frozen=True)
class Task:
    """One job over one table.

    :param job: "totals": count and sum(amount); "checksum": the sum of the Python function ``checksum`` over all rows.
    :param table: name of the table; its first column is the key.
    :param columns: columns to read, the key first.
    :param workers: maximum number of worker processes.
    :param ranges: number of parts to split the table into; None uses the side's default.
    :param split: for this provider only: "auto" leaves key and strategy to the provider, "key" names the key, others
        are strategies.
    :param target: table to write to, for ``writing.py``, whose jobs are its own.
    :param host: address of the database; so are ``port``, ``user``, ``password`` and ``dbname``.
    """

    job: str
    table: str
    columns: tuple[str, ...]
    workers: int
    host: str
    port: int
    user: str
    password: str
    dbname: str
    ranges: int | None = None
    split: str = "auto"
    target: str = ""

    @property
    def key(self) -> str:
        return self.columns[0]

    @property
    def login(self) -> dict[str, Any]:
        """The arguments of ``psycopg2.connect`` and ``psycopg.connect``."""
        names = ("host", "port", "user", "password", "dbname")
        return {name: getattr(self, name) for name in names}

    @property
    def uri(self) -> str:
        return f"postgresql://{self.user}:{quote(self.password)}@{self.host}:{self.port}/{self.dbname}"

    @property
    def exact_query(self) -> str:
        """The query for tools that convert numeric to float: it casts amounts to text."""
        names = [f"{name}::text AS {name}" if name == "amount" else name for name in self.columns]
        return f"SELECT {', '.join(names)} FROM {self.table}"


class Result(NamedTuple):
    """The result of a task.

    :param value: the sum; None if the side computes none.
    :param details: JSON for ``scale.py``.
    """

    rows: int
    value: Any
    details: Any = None


Run = Callable[[Task], Result]
Ready = Callable[[Task], AbstractContextManager[Run]]
"""A side. Its context imports the tool, starts its engine, and yields a function that runs tasks. The first task
contains the database and the number of workers."""
