"""A snapshot for tests, held by a separate session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from burla_provider.database.connect import open_connection
from burla_provider.database.snapshot import Snapshot, held_snapshot


@dataclass(frozen=True)
class HeldSnapshot:
    """A session that holds a snapshot, and is in it."""

    connection: psycopg.Connection[Any]
    snapshot: Snapshot


@contextmanager
def open_snapshot(parameters: Mapping[str, str], schema: str, table: str) -> Iterator[HeldSnapshot]:
    """Open a session, and hold a snapshot of the table in it."""
    with (
        closing(open_connection(parameters, application_name="burla snapshot", autocommit=True)) as connection,
        held_snapshot(connection, schema, table) as snapshot,
    ):
        yield HeldSnapshot(connection, snapshot)
