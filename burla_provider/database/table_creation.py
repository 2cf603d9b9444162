"""What the tables that a job leaves behind have in common: whoever needs one first makes it."""

from __future__ import annotations

from typing import Any

import psycopg

from burla_provider.exceptions import InvalidParameterError

_MAKING = 0x42_75_72_6D
"""Number of an advisory lock."""


def wait_for_makers(connection: psycopg.Connection[Any]) -> None:
    """Until the transaction ends, no other job makes a table: at the same time, both would, IF NOT EXISTS or not."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_MAKING])


def check_writable(connection: psycopg.Connection[Any], parameter: str, schema: str) -> None:
    """:raises InvalidParameterError: the table that ``parameter`` names is temporary, or this session cannot write it."""
    if schema.startswith("pg_temp"):
        raise InvalidParameterError(
            parameter, "a temporary table exists in one session only.", 'Name a table as "schema.table".'
        )
    [(read_only,)] = connection.execute("SELECT current_setting('transaction_read_only')::bool").fetchall()
    if read_only:
        raise InvalidParameterError(
            parameter,
            "the server is read-only: it is a hot standby, or default_transaction_read_only is on.",
            "Connect to the primary, as a role that may write.",
        )
