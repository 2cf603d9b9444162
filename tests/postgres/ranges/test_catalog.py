"""The catalog's facts about a table."""

from __future__ import annotations

import psycopg
import pytest

from burla_provider.ranges.catalog import TableFacts, read_facts
from burla_provider.ranges.planner_connection import PlannerConnection


def facts_of(connection: psycopg.Connection, table: str) -> TableFacts:
    return read_facts(PlannerConnection(connection), table)


def nullable(facts: TableFacts) -> dict[str, bool]:
    return {column.name: column.nullable for column in facts.columns}


@pytest.mark.parametrize("name", ["orders", "public.orders", "ORDERS", '"orders"', ' public . "orders" '])
def test_a_table_is_named_as_in_sql(connection, name: str) -> None:
    connection.execute("CREATE TABLE orders (id bigint)")
    assert str(facts_of(connection, name)) == "public.orders"


def test_quoted_names_are_taken_literally(connection) -> None:
    connection.execute('CREATE SCHEMA "My Schema"; CREATE TABLE "My Schema"."Order.s""%s" ("Id {x}" bigint)')
    facts = facts_of(connection, '"My Schema"."Order.s""%s"')
    assert (facts.schema, facts.table) == ("My Schema", 'Order.s"%s')
    assert facts.columns[0].name == "Id {x}"


def test_rows_grow_with_the_file(connection) -> None:
    connection.execute("CREATE TABLE grown AS SELECT n FROM generate_series(1, 50000) AS n; ANALYZE grown")
    connection.execute("INSERT INTO grown SELECT n FROM generate_series(1, 150000) AS n")
    assert facts_of(connection, "grown").rows == pytest.approx(200_000, rel=0.2)


def test_rows_of_a_table_that_was_never_analyzed_are_unknown(connection) -> None:
    connection.execute("CREATE TABLE fresh AS SELECT n FROM generate_series(1, 1000) AS n")
    assert facts_of(connection, "fresh").rows is None


def test_partitions_that_were_never_analyzed_count_with_the_density_of_the_others(connection) -> None:
    connection.execute(
        "CREATE TABLE top (n int) PARTITION BY RANGE (n);"
        "CREATE TABLE old PARTITION OF top FOR VALUES FROM (1) TO (50001);"
        "CREATE TABLE new PARTITION OF top FOR VALUES FROM (50001) TO (100001);"
        "INSERT INTO top SELECT generate_series(1, 100000); ANALYZE old"
    )
    assert facts_of(connection, "top").rows == pytest.approx(100_000, rel=0.02)


def test_an_empty_table_has_no_rows(connection) -> None:
    connection.execute("CREATE TABLE empty (n int)")
    assert facts_of(connection, "empty").rows == 0


def test_the_size_includes_toast(connection) -> None:
    connection.execute("CREATE TABLE fat (doc text); ALTER TABLE fat ALTER doc SET STORAGE EXTERNAL")
    connection.execute("INSERT INTO fat SELECT repeat('x', 100000) FROM generate_series(1, 20)")
    assert facts_of(connection, "fat").bytes > 2_000_000


@pytest.mark.parametrize(
    ("declared", "type_"),
    [
        ("numeric(12, 0)", "numeric"),
        ("varchar(7)", "character varying"),
        ("char(7)", "bpchar"),
        ("timestamptz(3)", "timestamp with time zone"),
        ("amount", "bigint"),
        ("bit(3)", '"bit"'),
    ],
)
def test_a_cast_to_the_type_name_changes_no_value(connection, declared: str, type_: str) -> None:
    connection.execute("CREATE DOMAIN whole AS bigint; CREATE DOMAIN amount AS whole CHECK (VALUE > 0)")
    connection.execute(f"CREATE TABLE typed (k {declared})")
    assert facts_of(connection, "typed").columns[0].type == type_


def test_a_child_can_allow_null_where_its_parent_does_not(connection) -> None:
    if connection.info.server_version >= 180000:
        pytest.skip("From 18 on, a child's columns are NOT NULL when those of its parent are.")
    connection.execute("CREATE TABLE parent (id bigint, at date NOT NULL); CREATE TABLE child () INHERITS (parent)")
    connection.execute("ALTER TABLE ONLY parent ADD PRIMARY KEY (id)")
    facts = facts_of(connection, "parent")
    assert nullable(facts)["at"] is False
    assert nullable(facts)["id"] is True


def test_a_column_with_a_not_valid_not_null_is_nullable(connection) -> None:
    if connection.info.server_version < 180000:
        pytest.skip("NOT NULL ... NOT VALID requires PostgreSQL 18.")
    connection.execute("CREATE TABLE loose (k int); INSERT INTO loose VALUES (NULL)")
    connection.execute("ALTER TABLE loose ADD CONSTRAINT not_validated NOT NULL k NOT VALID")
    assert nullable(facts_of(connection, "loose")) == {"k": True}


@pytest.mark.parametrize(
    ("index", "usable"),
    [
        ("(a)", True),
        ("(a DESC)", True),
        ("(a DESC, b DESC)", True),
        ("(a) INCLUDE (b)", True),
        ("(a NULLS FIRST)", False),
        ("(a, b DESC)", False),
        ("(a) WHERE a > 0", False),
        ("((a + 1))", False),
        ("USING hash (a)", False),
        ("USING brin (a)", False),
        ("(c text_pattern_ops)", False),
        ('(c COLLATE "POSIX")', False),
    ],
)
def test_an_index_is_listed_if_it_returns_the_keys_in_order(connection, index: str, usable: bool) -> None:
    connection.execute(f"CREATE TABLE indexed (a int, b int, c text); CREATE INDEX ON indexed {index}")
    assert bool(facts_of(connection, "indexed").indexes) is usable


def test_partitions_are_found_at_every_level(connection) -> None:
    connection.execute(
        "CREATE TABLE top (k int) PARTITION BY RANGE (k);"
        "CREATE TABLE low PARTITION OF top FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE high PARTITION OF top FOR VALUES FROM (10) TO (20) PARTITION BY LIST (k);"
        "CREATE TABLE high_11 PARTITION OF high FOR VALUES IN (11)"
    )
    facts = facts_of(connection, "top")
    assert [leaf.name for leaf in facts.leaves] == ["high_11", "low"]
    assert (facts.kind, facts.is_tree) == ("p", True)
