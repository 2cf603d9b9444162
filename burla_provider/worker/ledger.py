"""Every range once: a row per range, claimed and finished in the transaction of the range's own writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.database.connect import codec_of
from burla_provider.database.quoting import Identifier
from burla_provider.exceptions import UserFunctionError
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.json_values import to_json
from burla_provider.worker.outcome import Outcome, decode, encode
from burla_provider.worker.transaction_guard import commit_refused


@dataclass(frozen=True)
class Ledger:
    """Where a run keeps its books. ``task/ledger_table.py`` makes the table.

    :param run_key: the same for all tries of one run, another for every other run.
    """

    schema: str
    table: str
    run_key: str

    @property
    def relation(self) -> Identifier:
        return Identifier(self.schema, self.table)

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


def once(
    connection: psycopg.Connection[Any],
    ledger: Ledger,
    key_range: KeyRange,
    begun: Outcome,
    work: Callable[[], Outcome],
) -> Outcome:
    """The outcome of ``work()``, or what it was when it was done before; in the transaction that is going on.

    Waits for another execution of the range that is going on at the same time. A COMMIT whose answer was lost needs no
    care: whoever works the range again finds out here.

    :raises UserFunctionError: the ledger knows the range with other bounds, or the claim went away in the meantime.
    """
    if not _claim(connection, ledger, key_range, begun):
        return _stored(connection, ledger, key_range)
    with commit_refused(connection):
        outcome = work()
        _finish(connection, ledger, key_range, outcome)
    return outcome


def _claim(connection: psycopg.Connection[Any], ledger: Ledger, key_range: KeyRange, begun: Outcome) -> bool:
    query = sql.SQL(
        "INSERT INTO {} (run_key, range_index, range, attempt, worker) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (run_key, range_index) DO NOTHING"
    ).format(ledger.relation)
    row = [ledger.run_key, key_range.index, _bounds(key_range), begun.attempts, begun.worker]
    return connection.execute(query, row).rowcount == 1


def _stored(connection: psycopg.Connection[Any], ledger: Ledger, key_range: KeyRange) -> Outcome:
    query = sql.SQL("SELECT range, answer FROM {} WHERE run_key = %s AND range_index = %s").format(ledger.relation)
    [(bounds, answer)] = connection.execute(query, [ledger.run_key, key_range.index]).fetchall()
    if bounds != _bounds(key_range):
        raise UserFunctionError(
            f"The ledger {ledger} has range {key_range.index} of this run as {bounds}, and now it is"
            f" {_bounds(key_range)}: the plan has changed since the first try."
            " Clear the task, so that it begins a new run."
        )
    return decode(answer)


def _finish(connection: psycopg.Connection[Any], ledger: Ledger, key_range: KeyRange, outcome: Outcome) -> None:
    query = sql.SQL(
        "UPDATE {} SET row_count = %s, result = %s::jsonb, answer = %s, finished_at = clock_timestamp()"
        " WHERE run_key = %s AND range_index = %s AND finished_at IS NULL"
    ).format(ledger.relation)
    values = [
        outcome.row_count,
        # Escapes would be refused by a database that is not in UTF-8.
        json.dumps(to_json(outcome.value, codec_of(connection)), ensure_ascii=False),
        encode(outcome),
        ledger.run_key,
        key_range.index,
    ]
    if connection.execute(query, values).rowcount != 1:
        raise UserFunctionError(
            f"The claim of {key_range} in the ledger {ledger} is gone: did the function change the ledger?"
        )


def _bounds(key_range: KeyRange) -> str:
    lower, upper, nulls, relation, _ = key_range.to_item()
    if nulls:
        return f"{key_range.key} IS NULL"
    return repr((lower, upper, relation)) if relation else repr((lower, upper))
