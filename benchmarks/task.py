"""What a side is asked to do, and what it answers. Standard library only: every side's interpreter loads this."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote


@dataclass(frozen=True)
class Task:
    """One job over one table.

    :param job: "totals": count and sum(amount); "checksum": the sum of ``checksum`` over all rows, which is Python.
    :param table: name of the table; its first column is the key.
    :param columns: what the job reads of it, the key first.
    :param workers: how many processes may work.
    :param ranges: into how many parts the table is to be split; None: as the side does by itself.
    :param split: of ours only: the strategy.
    :param host: and ``port``, ``user``, ``password``, ``dbname``: the database.
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
        """The job's columns for tools that would make a float of a numeric: as text."""
        names = [f"{name}::text AS {name}" if name == "amount" else name for name in self.columns]
        return f"SELECT {', '.join(names)} FROM {self.table}"


class Answer(NamedTuple):
    """:param value: the sum; None where a side computes none (a limit).
    :param details: plain JSON that a scale measurement wants.
    """

    rows: int
    value: Any
    details: Any = None


Run = Callable[[Task], Answer]
Ready = Callable[[Task], AbstractContextManager[Run]]
"""A side: started up when the context is entered (imports, engines), it works tasks, and is gone after it. The
task that it is given beforehand says where the database is and how many workers there may be."""
