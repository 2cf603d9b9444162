"""The choice of a key when the user names none, and the check of a named key."""

from __future__ import annotations

import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.catalog import read_facts
from burla_provider.ranges.key import CTID
from burla_provider.ranges.key_choice import choose_key, choose_row_key
from burla_provider.ranges.planner_connection import PlannerConnection
from tests.postgres.ranges.conftest import Planner


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ("id bigint UNIQUE NOT NULL, code uuid PRIMARY KEY", ["code"]),
        ("code text UNIQUE NOT NULL, id bigint UNIQUE NOT NULL", ["id"]),
        ("code text PRIMARY KEY, id bigint UNIQUE NOT NULL", ["code"]),
        ("id bigint UNIQUE, code uuid UNIQUE NOT NULL", ["code"]),
        ("a int, b int NOT NULL, UNIQUE (a, b), c int UNIQUE", ["c"]),
        ("a int, b text, PRIMARY KEY (a, b)", ["a", "b"]),
        ("a int, b text, PRIMARY KEY (a, b) INCLUDE (c), c int", ["a", "b"]),
        ("id bigint UNIQUE", ["id"]),
    ],
)
def test_the_best_unique_key_is_chosen(connection, plan: Planner, columns: str, key: list[str]) -> None:
    connection.execute(f"CREATE TABLE keyed ({columns})")
    assert list(plan("keyed").key.names) == key


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ("id bigint UNIQUE NOT NULL, code uuid PRIMARY KEY", ("code",)),
        ("a int, b text, PRIMARY KEY (a, b)", ("a", "b")),
        ("id bigint UNIQUE, code uuid UNIQUE NOT NULL", ("code",)),
        ("id bigint UNIQUE", ()),
        ("id bigint", ()),
    ],
)
def test_rows_are_named_by_a_unique_key_that_is_not_null(connection, columns: str, key: tuple[str, ...]) -> None:
    connection.execute(f"CREATE TABLE named ({columns})")
    facts = read_facts(PlannerConnection(connection), "named")
    assert choose_row_key(facts, CTID).names == key
    assert choose_row_key(facts, choose_key(facts, None)).names == ()


@pytest.mark.parametrize("columns", ["a int, b int, UNIQUE (a, b)", "a int", "a int, EXCLUDE (a WITH =)"])
def test_a_key_that_could_lose_rows_is_not_chosen(connection, plan: Planner, columns: str) -> None:
    connection.execute(f"CREATE TABLE keyless ({columns})")
    assert plan("keyless").key.names == ()


def test_a_named_key_does_not_need_to_be_unique_or_indexed(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE logs (at timestamptz NOT NULL, level int)")
    assert plan("logs", key="at").key.names == ("at",)
    assert plan("logs", key=["at"]).key.names == ("at",)


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_the_advice_for_several_columns_of_a_view_is_possible(connection, plan: Planner, kind) -> None:
    connection.execute(f"CREATE {kind} seen AS SELECT n AS a, n AS b FROM generate_series(1, 10) AS n")
    with pytest.raises(InvalidParameterError, match=r"key: a, b can be NULL, .* Split by one column\.$"):
        plan("seen", key=["a", "b"])


def test_a_misspelled_key_gets_a_suggestion(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE orders (id bigint, created_at date)")
    with pytest.raises(InvalidParameterError, match=r"Did you mean created_at\?"):
        plan("orders", key="create_at")
