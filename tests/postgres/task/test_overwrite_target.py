"""The checks of an overwrite beside other sessions."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from burla_provider.task.exchange import Exchange
from burla_provider.task.overwrite_target import check_exchange
from burla_provider.worker.sinks import Target


@pytest.mark.parametrize("timeout", ["lock_timeout", "statement_timeout"])
def test_a_target_that_is_locked_is_not_refused_because_a_retry_may_succeed(
    connection: psycopg.Connection[Any], database: str, timeout: str
) -> None:
    connection.execute("CREATE TABLE target (id bigint PRIMARY KEY)")
    exchange = Exchange(Target("public", "target", ("id",)), ("id",), "TRUE")
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE target")
        connection.execute(f"SET {timeout} = '100ms'")
        with pytest.raises((psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)):
            check_exchange(connection, exchange)
    connection.execute(f"RESET {timeout}")  # not a limit for the check itself
    check_exchange(connection, exchange)
