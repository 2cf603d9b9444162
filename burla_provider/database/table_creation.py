"""Checks and a lock for the creation of the tables that jobs write to: the ledger, results, and rejected rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from burla_provider.database.quoting import Identifier
from burla_provider.exceptions import InvalidParameterError

_CREATION_LOCK = 0x42_75_72_6D
"""Key of an advisory lock."""


def lock_table_creation(connection: psycopg.Connection[Any]) -> None:
    """Wait until no other job creates a table, and block others until the transaction ends.

    Without the lock, two concurrent CREATE TABLE IF NOT EXISTS can both try to create the table, and one fails.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_CREATION_LOCK])


def table_exists(connection: psycopg.Connection[Any], table: Identifier) -> bool:
    """Return whether there is a table of this name.

    :raises psycopg.errors.InsufficientPrivilege: if the role has no USAGE on the schema.
    """
    [(exists,)] = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [table.as_regclass(connection)]).fetchall()
    return bool(exists)


def quoted_role(connection: psycopg.Connection[Any]) -> str:
    """Return the role whose privileges the session has, quoted for GRANT."""
    [(role,)] = connection.execute("SELECT quote_ident(current_user)").fetchall()
    return str(role)


def check_writable(connection: psycopg.Connection[Any], parameter: str, schema: str) -> None:
    """Check that this session can write tables in the schema.

    :param parameter: the operator parameter that names the table, for the error.
    :raises InvalidParameterError: if the schema is a temporary one, or the session is read-only.
    """
    if schema.startswith("pg_temp"):
        raise InvalidParameterError(
            parameter, "a temporary table exists in one session only.", 'Name a table as "schema.table".'
        )
    [(read_only,)] = connection.execute("SELECT current_setting('transaction_read_only')::bool").fetchall()
    if read_only:
        raise InvalidParameterError(
            parameter,
            "the server is read-only: it is a hot standby, or default_transaction_read_only is on.",
            "Connect to the primary, as a role that can write.",
        )


@contextmanager
def trial_write(connection: psycopg.Connection[Any], parameter: str, table: Identifier) -> Iterator[None]:
    """Roll back what the block writes to a table that exists, and check that the table has accepted it.

    Otherwise privileges, row security, constraints and triggers could refuse the rows of a job when it has run.

    :param parameter: the operator parameter that names the table, for the error.
    :raises InvalidParameterError: if the table has not accepted it.
    """
    try:
        with connection.transaction(force_rollback=True):
            yield
    except psycopg.OperationalError:  # such as a lock or a timeout: a retry may succeed
        raise
    except psycopg.DatabaseError as error:
        name = table.as_string(connection)
        raise InvalidParameterError(
            parameter,
            f"the server refuses a row for {name}: {error.diag.message_primary or error}.",
            f"Name a table that does not exist: it will be created. Or, if a privilege is missing, run: GRANT SELECT,"
            f" INSERT, DELETE ON {name} TO {quoted_role(connection)};",
        ) from None
