"""The table that the name of a ledger, of results or of rejected rows means."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.task.ledger_table import prepare_ledger
from burla_provider.task.session import resolve
from burla_provider.worker.ledger import Ledger


@pytest.fixture
def schemas(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """A session with two schemas in its search path."""
    connection.execute("CREATE SCHEMA app; SET search_path = app, public")
    return connection


def test_a_name_without_a_schema_means_the_table_that_is_on_the_search_path(schemas: psycopg.Connection[Any]) -> None:
    prepare_ledger(schemas, Ledger("public", "Kept", "run"))
    assert resolve(schemas, "ledger", '"Kept"') == ("public", "Kept")
    prepare_ledger(schemas, Ledger("app", "Kept", "run"))
    assert resolve(schemas, "ledger", '"Kept"') == ("app", "Kept")


def test_a_new_table_is_in_the_first_schema(schemas: psycopg.Connection[Any]) -> None:
    assert resolve(schemas, "ledger", "kept") == ("app", "kept")
    assert resolve(schemas, "ledger", "Public.kept") == ("public", "kept")


@pytest.mark.parametrize("path", ["", "nowhere"])
def test_a_search_path_without_a_schema_needs_a_name_with_one(connection: psycopg.Connection[Any], path: str) -> None:
    connection.execute("SELECT set_config('search_path', %s, false)", [path])
    with pytest.raises(InvalidParameterError) as error:
        resolve(connection, "ledger", "kept")
    assert str(error.value) == (
        "ledger: 'kept' has no schema, and the search_path of the session has none that exists. Write \"schema.table\"."
    )
    assert resolve(connection, "ledger", "public.kept") == ("public", "kept")
