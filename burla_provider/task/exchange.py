"""The last step of an overwrite: replace rows of the target by those of a staging table, in one transaction.

Only rows that differ are written. Readers see the rows before or after, and do not wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from burla_provider.database.errors import is_canceled, is_transient
from burla_provider.database.quoting import Identifier
from burla_provider.database.redact import redact
from burla_provider.database.settings import unreachable_client_settings
from burla_provider.exceptions import ExchangeError, OverwriteError
from burla_provider.task.ledger_table import read_exchange, store_exchange
from burla_provider.worker.sinks import Target
from burla_provider.worker.sinks.staged import has_other_types
from burla_provider.worker.sinks.target import names

if TYPE_CHECKING:
    from burla_provider.database.settings import SessionSettings
    from burla_provider.worker.ledger import Ledger

_LOCK_TIMEOUT = "5s"
"""Longest wait for the lock on the target, because new writers queue behind this wait. Then others go first."""

_STAGED = "burla_staged"

_EXCHANGE_LOCK = 0x42_75_78
"""First key of an advisory lock. The second one is the target."""


class AnotherExchangeError(Exception):
    """Raised when another overwrite replaces rows of the target at this moment."""


@dataclass(frozen=True)
class Exchange:
    """What an overwrite replaces.

    :param target: the table, and the columns that get values.
    :param key: columns of a unique index; none: all rows are deleted, and the new ones inserted.
    :param where: the condition on the rows that are replaced.
    :param unset_columns: columns of the table that get no values.
    :param has_triggers: whether triggers may change rows before they are inserted.
    """

    target: Target
    key: tuple[str, ...]
    where: str
    unset_columns: tuple[str, ...] = ()
    has_triggers: bool = False

    @property
    def condition(self) -> sql.Composable:
        """``where`` in brackets."""
        return _in_brackets(self.where)

    def select(self, condition: str) -> sql.Composed:
        """Return a query of the rows of the target that satisfy a condition."""
        return sql.SQL("SELECT FROM {} WHERE {}").format(self.target.relation, _in_brackets(condition))

    def create_staging(self, staging: Identifier) -> sql.Composed:
        """Return the statements that create the staging table, with the columns that get values.

        It has the target's constraints on rows, so that a row that violates one fails when it is staged.
        """
        if self.has_triggers:  # they may correct a row
            query = sql.SQL("CREATE TABLE {} AS SELECT {} FROM {} WITH NO DATA")
            return query.format(staging, self.target.column_list, self.target.relation)
        create = sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING CONSTRAINTS)").format(staging, self.target.relation)
        if not self.unset_columns:
            return create
        drops = [sql.SQL("DROP COLUMN {}").format(Identifier(name)) for name in self.unset_columns]
        return sql.SQL("{}; ALTER TABLE {} {}").format(create, staging, sql.SQL(", ").join(drops))

    def statements(self, staging: Identifier) -> dict[str, sql.Composed]:
        """Return the statements by the names of what they count.

        Each returns the number of rows, and one that is then outside of the condition, or NULL.
        """
        if not self.key:
            every = sql.SQL("TRUE")
            return {"rows_deleted": self._delete(every), "rows_inserted": self._insert(staging, every)}
        staged = self._staged(staging)
        is_staged = sql.SQL("EXISTS (SELECT FROM {} WHERE {})").format(staged, self._same_key)
        is_there = sql.SQL("EXISTS (SELECT FROM {} WHERE {} AND {})").format(
            self.target.relation, self._same_key, self.condition
        )
        return {
            # In this order, because a row may get a value that another row had.
            "rows_deleted": self._delete(sql.SQL("NOT {}").format(is_staged)),
            "rows_updated": self._update(staged),
            "rows_inserted": self._insert(staging, sql.SQL("NOT {}").format(is_there)),
        }

    def find_duplicate(self, staging: Identifier) -> sql.Composed:
        """Return a query of a key that several staged rows have."""
        key = names(self.key)
        query = "SELECT ROW({})::text FROM {} GROUP BY {} HAVING count(*) > 1 LIMIT 1"
        return sql.SQL(query).format(key, staging, key)

    def _delete(self, condition: sql.Composable) -> sql.Composed:
        delete = sql.SQL("DELETE FROM {} WHERE {} AND {}").format(self.target.relation, self.condition, condition)
        return _counted(delete, sql.SQL("NULL::text"))

    def _update(self, staged: sql.Composable) -> sql.Composed:
        columns = [(self._column(name), self._value(name)) for name in self.target.columns]
        # As records, because a value may have no equality, or be equal to a value that is different. See
        # ``worker/sinks/staged.py``.
        old, new = (sql.SQL("ROW({})::record").format(sql.SQL(", ").join(side)) for side in zip(*columns, strict=True))
        values = [sql.SQL("{} = {}").format(Identifier(name), self._value(name)) for name in self.target.columns]
        update = sql.SQL("UPDATE {} SET {} FROM {} WHERE {} AND {} AND {} *<> {}").format(
            self.target.relation, sql.SQL(", ").join(values), staged, self._same_key, self.condition, old, new
        )
        return _counted(update, self._outside)

    def _insert(self, staging: Identifier, condition: sql.Composable) -> sql.Composed:
        values = sql.SQL(", ").join(map(self._value, self.target.columns))
        insert = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} WHERE {}").format(
            self.target.relation, self.target.column_list, values, self._staged(staging), condition
        )
        return _counted(insert, self._outside)

    @property
    def _outside(self) -> sql.Composed:
        """The key of the row if the row is outside of the condition, else NULL."""
        row = sql.SQL(", ").join(map(self._column, self.key or self.target.columns))
        return sql.SQL("CASE WHEN {} THEN NULL ELSE left(ROW({})::text, 200) END").format(self.condition, row)

    @property
    def _same_key(self) -> sql.Composed:
        columns = [(self._column(name), self.target.operator(name, "="), self._value(name)) for name in self.key]
        return sql.SQL(" AND ").join(sql.SQL("{} {} {}").format(*parts) for parts in columns)

    def _staged(self, staging: Identifier) -> sql.Composed:
        # With other names, so that those in the condition are columns of the target.
        aliases = [(Identifier(name), Identifier(self._alias(name))) for name in self.target.columns]
        columns = sql.SQL(", ").join(sql.SQL("{} AS {}").format(*pair) for pair in aliases)
        return sql.SQL("(SELECT {} FROM {}) AS {}").format(columns, staging, Identifier(_STAGED))

    def _alias(self, name: str) -> str:
        return f"burla_{self.target.columns.index(name)}"

    def _value(self, name: str) -> Identifier:
        return Identifier(_STAGED, self._alias(name))

    def _column(self, name: str) -> Identifier:
        return Identifier(self.target.table, name)


def exchange_rows(
    connection: psycopg.Connection[Any],
    exchange: Exchange,
    staging: Identifier,
    ledger: Ledger,
    settings: SessionSettings,
    row_count: int,
    secrets: Mapping[str, str],
) -> dict[str, int]:
    """Replace the rows, drop the staging table, and return how many rows were changed.

    The ledger gets these counts in the same transaction. If it has them, nothing is done.

    :param row_count: number of staged rows.
    :param secrets: connection parameters whose secrets no text may have.
    :raises AnotherExchangeError: if another overwrite replaces rows of the target.
    :raises OverwriteError: if rows cannot be in the target.
    :raises ExchangeError: if the server refuses to replace the rows for another reason.
    :raises psycopg.Error: if the connection is lost, or a lock is not available.
    """
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    try:
        counts = read_exchange(connection, ledger)
        if counts is None:
            with connection.transaction():
                _set_up(connection, settings)
                connection.execute(sql.SQL("ANALYZE {}").format(staging))
            with connection.transaction():
                counts = _exchange(connection, exchange, staging, settings, row_count)
                store_exchange(connection, ledger, counts)
        return counts
    except (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation) as error:
        advice = (
            "The row that has this value is outside of overwrite_where, or two rows exchange their values. Correct the"
            " function or overwrite_where, or make the constraint DEFERRABLE if it is not that of the key."
        )
        raise OverwriteError(_describe(exchange, error, secrets) + advice) from None
    except psycopg.Error as error:
        if is_transient(error):
            raise
        advice = "Raise statement_timeout before the next retry. " if is_canceled(error) else ""
        raise ExchangeError(f"{_describe(exchange, error, secrets)}{advice}A retry repeats only this step.") from None


def _exchange(
    connection: psycopg.Connection[Any],
    exchange: Exchange,
    staging: Identifier,
    settings: SessionSettings,
    row_count: int,
) -> dict[str, int]:
    _set_up(connection, settings)
    query = "SELECT pg_try_advisory_xact_lock(%s, (%s::regclass::oid::bigint - 2147483648)::integer)"
    [(is_first,)] = connection.execute(
        query, [_EXCHANGE_LOCK, exchange.target.relation.as_regclass(connection)]
    ).fetchall()
    if not is_first:
        raise AnotherExchangeError
    # Workers of an earlier try wait. Others may read it: a dump of the database does, maybe for hours.
    connection.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(staging))
    # Other writers wait, readers do not. The foreign keys of other tables can still be checked.
    connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(exchange.target.relation))
    [(staged,)] = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(staging)).fetchall()
    if staged != row_count:
        raise OverwriteError(
            f"The staging table {staging.as_string()} has {staged:,} rows instead of {row_count:,}: did another session"
            f" change it? {exchange.target} is unchanged. Clear the task to start a new run."
        )
    if has_other_types(connection, staging, exchange.target.relation):
        raise OverwriteError(
            f"Types of the columns of {exchange.target} were changed since its rows were staged. The target's rows are"
            " unchanged. Clear the task to start a new run."
        )
    if exchange.key and (duplicate := connection.execute(exchange.find_duplicate(staging)).fetchone()):
        raise OverwriteError(
            f"Two rows for {exchange.target} have the same key ({', '.join(exchange.key)}): {duplicate[0]}. The target"
            " is unchanged. Let the function return each key once, and clear the task."
        )
    counts = {"rows_inserted": 0, "rows_updated": 0, "rows_unchanged": 0, "rows_deleted": 0}
    for name, statement in exchange.statements(staging).items():
        [(counts[name], outside)] = connection.execute(statement).fetchall()
        if outside is not None:
            columns = ", ".join(exchange.key or exchange.target.columns)
            raise OverwriteError(
                f"A row for {exchange.target} is outside of overwrite_where, {exchange.where!r}: ({columns}) ="
                f" {outside}. The target is unchanged. Let the function return only rows for which it is true, or"
                " correct it, and clear the task."
            )
    counts["rows_unchanged"] = row_count - counts["rows_inserted"] - counts["rows_updated"]
    with suppress(psycopg.errors.LockNotAvailable), connection.transaction():  # ``Staging.drop`` tries it again
        connection.execute(sql.SQL("SET LOCAL lock_timeout = '1s'; DROP TABLE {}").format(staging))
    return counts


def _set_up(connection: psycopg.Connection[Any], settings: SessionSettings) -> None:
    # Without row security: an error instead of rows that a policy hides.
    defaults = {"lock_timeout": _LOCK_TIMEOUT, "row_security": "off", **unreachable_client_settings(connection)}
    connection.execute(settings.transaction_sql(" exchange", defaults))
    # If the task is killed, the server soon ends the transaction, which locks the target. Some systems cannot.
    with suppress(psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject), connection.transaction():
        connection.execute("SET LOCAL client_connection_check_interval = '5s'")


def _counted(statement: sql.Composable, outside: sql.Composable) -> sql.Composed:
    query = "WITH written AS ({} RETURNING {} AS outside) SELECT count(*), min(outside) FROM written"
    return sql.SQL(query).format(statement, outside)


def _in_brackets(condition: str) -> sql.SQL:
    return sql.SQL(f"(\n{condition}\n)")  # the line breaks end a comment in it


def _describe(exchange: Exchange, error: psycopg.Error, secrets: Mapping[str, str]) -> str:
    text = error.diag.message_primary or str(error)
    detail = f" ({error.diag.message_detail.rstrip('.')})" if error.diag.message_detail else ""
    return redact(f"The rows of {exchange.target} were not replaced: {text}{detail}. ", secrets)
