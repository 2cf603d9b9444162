"""Versions of the tables that jobs write to: the ledger, results, and rejected rows.

A version adds columns to the one before, and changes nothing else. So the version of a table follows from its columns,
and a table that is restored from a dump, or created by an administrator, has its version, too.

Rules for a new version:

- Append the columns, name -> type, to ``ADDED_COLUMNS`` of the table. They may be NULL and have no default, so that an
  older version of the provider can write to the table, and adding them does not rewrite it.
- Write them only if ``read_version`` says that the table has them: the role may not be its owner.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.database.quoting import Identifier
from burla_provider.database.table_creation import lock_table_creation

_log = logging.getLogger(__name__)

_LOCK_TIMEOUT = "1s"
"""While the statement waits for its lock, other sessions wait behind it."""

_COUNT_PRESENT = """
    SELECT count(*) FROM unnest(%s::text[], %s::text[]) AS wanted (name, kind) JOIN pg_attribute
        ON attrelid = %s::regclass AND attname = name AND atttypid = kind::regtype AND NOT attisdropped
"""


def read_version(connection: psycopg.Connection[Any], table: Identifier, added: Sequence[Mapping[str, str]]) -> int:
    """Return the version of a table that exists: 1 without any of the columns.

    :param added: the columns that versions 2, 3, ... add.
    """
    name = table.as_regclass(connection)
    for number, columns in enumerate(added, 1):
        values = [list(columns), list(columns.values()), name]
        [(present,)] = connection.execute(_COUNT_PRESENT, values).fetchall()
        if present < len(columns):
            return number
    return 1 + len(added)


def upgrade_table(connection: psycopg.Connection[Any], table: Identifier, added: Sequence[Mapping[str, str]]) -> None:
    """Add the columns of newer versions to a table that exists.

    If the role is not the owner, or other sessions use the table for longer than a second, the table stays as it is,
    and the log has the statement. The next task tries it again.

    :param connection: an autocommit connection.
    :param added: the columns that versions 2, 3, ... add.
    """
    version = read_version(connection, table, added)
    columns = {name: kind for later in added[version - 1 :] for name, kind in later.items()}
    if not columns:
        return
    additions = ", ".join(
        f"ADD COLUMN IF NOT EXISTS {sql.Identifier(name).as_string(connection)} {kind}"
        for name, kind in columns.items()
    )
    statement = f"ALTER TABLE {table.as_string(connection)} {additions}"
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
            lock_table_creation(connection)
            connection.execute(sql.SQL(statement))
    except psycopg.DatabaseError as error:
        _log.warning(
            "The table %s has version %d, the newest is %d. Its new columns cannot be added now (%s) and stay unused."
            " The owner can run: %s;",
            table.as_string(connection),
            version,
            1 + len(added),
            error.diag.message_primary or error,
            statement,
        )
    else:
        _log.info("The table %s now has version %d.", table.as_string(connection), 1 + len(added))
