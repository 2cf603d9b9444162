"""Fixtures for all tests: a real PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import psycopg
import pytest

from tests.support.postgres import PostgresServer, running_server

# A busy machine is no reason to fail, and CI is to say the same of the same code; elsewhere every run looks anew.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile(os.environ.get("BURLA_TEST_PROFILE", "ci" if os.environ.get("CI") else "patient"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real server on 127.0.0.1. BURLA_TEST_POSTGRES is its major version: 16 by default."""
    with running_server() as server:
        yield server


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """The conninfo of a fresh and empty database."""
    with postgres_server.database() as conninfo:
        yield conninfo


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    """An autocommit connection to ``database``."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def counted_writes(postgres_server: PostgresServer) -> None:
    """Skip the test if the provider cannot see by the server's counters whether a table has changed."""
    if postgres_server.version < 15:
        pytest.skip("before PostgreSQL 15, idle sessions do not report their writes")
