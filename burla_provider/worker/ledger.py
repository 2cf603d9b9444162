"""Exactly-once writes: a ledger row per range, claimed and finished in the transaction of the range's writes."""

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
from burla_provider.worker.transaction_guard import refuse_commit


@dataclass(frozen=True)
class Ledger:
    """The ledger table of a run, which ``task/ledger_table.py`` creates.

    :param schema: schema of the table.
    :param table: name of the table.
    :param run_key: identifies the run; all tries of a run have the same key.
    """

    schema: str
    table: str
    run_key: str

    @property
    def relation(self) -> Identifier:
        """The table as SQL."""
        return Identifier(self.schema, self.table)

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


def run_once(
    connection: psycopg.Connection[Any],
    ledger: Ledger,
    key_range: KeyRange,
    attempt: Outcome,
    process: Callable[[], Outcome],
) -> Outcome:
    """Return the outcome of ``process()``, or the stored outcome if the range was finished before.

    Runs in the open transaction. Waits while another worker processes the same range. If the response to a COMMIT was
    lost, the next attempt finds the stored outcome.

    :raises UserFunctionError: if the ledger has other bounds for the range, or no row for it any more.
    """
    if not _claim(connection, ledger, key_range, attempt):
        return _read_stored(connection, ledger, key_range)
    with refuse_commit(connection):
        outcome = process()
        _finish(connection, ledger, key_range, outcome)
    return outcome


def _claim(connection: psycopg.Connection[Any], ledger: Ledger, key_range: KeyRange, attempt: Outcome) -> bool:
    query = sql.SQL(
        "INSERT INTO {} (run_key, range_index, range, attempt, worker) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (run_key, range_index) DO NOTHING"
    ).format(ledger.relation)
    row = [ledger.run_key, key_range.index, describe_bounds(key_range), attempt.attempts, attempt.worker]
    return connection.execute(query, row).rowcount == 1


def _read_stored(connection: psycopg.Connection[Any], ledger: Ledger, key_range: KeyRange) -> Outcome:
    query = sql.SQL("SELECT range, answer FROM {} WHERE run_key = %s AND range_index = %s").format(ledger.relation)
    [(bounds, encoded)] = connection.execute(query, [ledger.run_key, key_range.index]).fetchall()
    check_bounds(ledger, key_range, bounds)
    return decode(encoded)


def _finish(connection: psycopg.Connection[Any], ledger: Ledger, key_range: KeyRange, outcome: Outcome) -> None:
    query = sql.SQL(
        "UPDATE {} SET row_count = %s, result = %s::jsonb, answer = %s, finished_at = clock_timestamp()"
        " WHERE run_key = %s AND range_index = %s AND finished_at IS NULL"
    ).format(ledger.relation)
    values = [
        outcome.row_count,
        # Without escapes, which a database with another encoding than UTF-8 may reject.
        json.dumps(to_json(outcome.value, codec_of(connection)), ensure_ascii=False),
        encode(outcome),
        ledger.run_key,
        key_range.index,
    ]
    if connection.execute(query, values).rowcount != 1:
        raise UserFunctionError(f"{missing_row(ledger, key_range)}: did the function change the ledger?")


def missing_row(ledger: Ledger, key_range: KeyRange) -> str:
    """Return the problem that the row of a range is gone, as the beginning of a sentence."""
    return f"The ledger {ledger} has no row any more for {key_range}"


def check_bounds(ledger: Ledger, key_range: KeyRange, stored: str) -> None:
    """Check that the ledger's bounds of the range are those of the range.

    :raises UserFunctionError: if they are not.
    """
    if stored != describe_bounds(key_range):
        raise UserFunctionError(
            f"The ledger {ledger} has other bounds for range {key_range.index} of this run: {stored}, now"
            f" {describe_bounds(key_range)}. The plan has changed since the first try. Clear the task to start a new"
            " run."
        )


def describe_bounds(key_range: KeyRange) -> str:
    """Return the bounds of the range as the ledger has them."""
    lower, upper, nulls, relation, _ = key_range.to_item()
    if nulls:
        return f"{key_range.key} IS NULL"
    return repr((lower, upper, relation)) if relation else repr((lower, upper))
