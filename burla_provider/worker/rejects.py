"""Rows that are not written because of an error: which errors count, and how the rows are recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.database.connect import codec_of
from burla_provider.database.quoting import Identifier
from burla_provider.exceptions import BurlaProviderError, ReturnedRowError
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.errors import MESSAGE_LIMIT, describe_error, redact_message
from burla_provider.worker.json_values import storable_text, to_json
from burla_provider.worker.ledger import describe_bounds

COUNT = "rows_rejected"
"""Name of the count of rejected rows."""

_REFUSALS = ("22", "23")
"""Classes of SQLSTATE of a row that cannot be written: data exceptions, and violated constraints."""

# Errors that do not depend on the contents of a row.
_OTHER_CAUSES = (
    BurlaProviderError,
    ConnectionError,
    ImportError,
    MemoryError,
    NameError,
    SyntaxError,
    SystemError,
    TimeoutError,
    psycopg.InterfaceError,
    psycopg.OperationalError,
)
# Errors of requests, httpx, aiohttp, botocore and others, which do not derive from the built-in classes.
_OTHER_NAMES = re.compile("Timeout|TimedOut|Connection.*Error|ConnectError|NetworkError|Cancelled")


@dataclass(frozen=True)
class Rejected:
    """A row of the source that is not written.

    :param row: its values.
    :param key: its order key, as text; no values if it has none.
    :param error_class: class of the error.
    :param message: text of the error. It may have secrets.
    :param sqlstate: SQLSTATE of the error, if the server reported it.
    """

    row: tuple[Any, ...]
    key: tuple[Any, ...]
    error_class: str
    message: str
    sqlstate: str | None = None

    @classmethod
    def because(cls, error: Exception, row: tuple[Any, ...], key: tuple[Any, ...]) -> Rejected:
        """Return the row with the error."""
        # The error is not kept: its traceback has all variables of the function.
        failure = describe_error(error)
        return cls(row, key, failure.type, failure.message[: 10 * MESSAGE_LIMIT], failure.sqlstate)


@dataclass(frozen=True)
class RejectTable:
    """The table of rejected rows, which ``task/reject_table.py`` creates.

    :param schema: schema of the table.
    :param table: name of the table.
    :param run_key: identifies the run, as in the ledger.
    :param try_number: number of the try of the task.
    :param columns: names of the columns of a row of the source.
    :param secrets: connection parameters whose secrets no message may show.
    """

    schema: str
    table: str
    run_key: str
    try_number: int
    columns: tuple[str, ...]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def relation(self) -> Identifier:
        """The table as SQL."""
        return Identifier(self.schema, self.table)

    def write(
        self,
        connection: psycopg.Connection[Any],
        key_range: KeyRange,
        rejected: Sequence[Rejected],
        key_names: Sequence[str],
    ) -> None:
        """Insert the rows in the open transaction.

        :param key_names: names of the columns of the rows' keys.
        """
        codec = codec_of(connection)
        keys, rows = [], []
        for reject in rejected:
            named = dict(zip(key_names, reject.key, strict=True)) if reject.key else None
            keys.append(_dump(named, codec))
            rows.append(_dump(dict(zip(self.columns, reject.row, strict=True)), codec))
        query = sql.SQL(
            "INSERT INTO {} (run_key, range_index, range, source_key, source_row, error_class, message, sqlstate,"
            " try_number) SELECT %s, %s, %s, key::jsonb, row::jsonb, class, message, state, %s"
            " FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[])"
            " AS given (key, row, class, message, state)"
        )
        values = [
            self.run_key,
            key_range.index,
            describe_bounds(key_range),
            self.try_number,
            keys,
            rows,
            [reject.error_class for reject in rejected],
            [storable_text(redact_message(reject.message, self.secrets), codec) for reject in rejected],
            [reject.sqlstate for reject in rejected],
        ]
        connection.execute(query.format(self.relation), values)

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True)
class RejectLimit:
    """The maximum number of rejected rows.

    :param tolerated: a number, or a percentage of the rows that are read.
    :param expected_rows: estimated rows of the table; None: unknown.
    """

    tolerated: int | Decimal
    is_percentage: bool = False
    expected_rows: int | None = None

    def is_exceeded(self, rejected: int, rows: int) -> bool:
        """Return whether too many rows of a job that has ended were rejected.

        :param rows: rows that were read.
        """
        return rejected > (self.tolerated * rows / 100 if self.is_percentage else self.tolerated)

    def is_certain(self, rejected: int, rows: int) -> bool:
        """Return whether too many rows are rejected, whatever follows."""
        if not self.is_percentage:
            return self.is_exceeded(rejected, rows)
        # The estimate may be too small.
        return self.expected_rows is not None and self.is_exceeded(rejected, max(rows, 2 * self.expected_rows))

    def __str__(self) -> str:
        return f"{self.tolerated}%" if self.is_percentage else f"{self.tolerated:,}"


def is_row_error(error: Exception) -> bool:
    """Return whether the contents of a row may have caused an error of the user's function."""
    if isinstance(error, ReturnedRowError):
        return True
    names = (cls.__name__ for cls in type(error).__mro__)
    return not isinstance(error, _OTHER_CAUSES) and not any(map(_OTHER_NAMES.search, names))


def is_refusal(error: Exception) -> bool:
    """Return whether a row that cannot be written has caused an error of a write."""
    if not isinstance(error, psycopg.Error):
        return is_row_error(error)
    if error.sqlstate is None:  # psycopg's own: it cannot send a value
        return isinstance(error, psycopg.DataError | psycopg.ProgrammingError | psycopg.NotSupportedError)
    return error.sqlstate.startswith(_REFUSALS)


def _dump(value: Mapping[str, Any] | None, codec: str) -> str | None:
    # Without escapes, which a database with another encoding than UTF-8 may reject.
    return None if value is None else json.dumps(to_json(value, codec), ensure_ascii=False, default=str)
