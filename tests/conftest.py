"""Fixtures for everybody: a real PostgreSQL."""

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
    """A real server on 127.0.0.1, its version by BURLA_TEST_POSTGRES: 15 (Debian's), 16 (the default) or 18."""
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
