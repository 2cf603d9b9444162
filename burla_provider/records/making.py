"""What the tables that a job leaves behind have in common: whoever needs one first makes it."""

from __future__ import annotations

from typing import Any

import psycopg

from burla_provider.exceptions import InvalidParameter

_MAKING = 0x42_75_72_6D
"""Number of an advisory lock."""


def wait_for_makers(connection: psycopg.Connection[Any]) -> None:
    """Until the transaction ends, no other job makes a table: at the same time, both would, IF NOT EXISTS or not."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_MAKING])


def check_writable(connection: psycopg.Connection[Any], parameter: str) -> None:
    """:raises InvalidParameter: whatever ``parameter`` names, it cannot be written in this session."""
    [(read_only,)] = connection.execute("SELECT current_setting('transaction_read_only')::bool").fetchall()
    if read_only:
        raise InvalidParameter(
            parameter,
            "the server is read-only: it is a hot standby, or default_transaction_read_only is on.",
            "Connect to the primary, as a role that may write.",
        )
