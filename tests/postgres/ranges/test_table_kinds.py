"""``KeyRange.where`` alone selects exactly the range's rows, for every kind of table and every strategy."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges import RangePlan, plan_ranges
from burla_provider.ranges.strategies import STRATEGIES
from tests.postgres.ranges.covering import rows_in, rows_of, sizes_of
from tests.postgres.ranges.test_coverage import HOSTILE, SIZES

KEYED = "row_id int NOT NULL, id int, region text, PRIMARY KEY (row_id, region)"
KINDS = {
    "plain": f"CREATE TABLE t ({KEYED})",
    "hash": f"""
        CREATE TABLE t ({KEYED}) PARTITION BY HASH (row_id);
        CREATE TABLE t_0 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 0);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 1);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 2)
    """,
    "list": f"""
        CREATE TABLE t ({KEYED}) PARTITION BY LIST (region);
        CREATE TABLE "t %s" PARTITION OF t FOR VALUES IN ('a%%', 'b');
        CREATE TABLE "t\\""1" PARTITION OF t FOR VALUES IN ('c')
    """,
    "range with default": """
        CREATE TABLE t (row_id int, id int, region text) PARTITION BY RANGE (id);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (50);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (50) TO (90);
        CREATE TABLE t_rest PARTITION OF t DEFAULT;
        CREATE INDEX ON t (id)
    """,
    "three levels": """
        CREATE SCHEMA archive;
        CREATE TABLE t (row_id int, id int, region text) PARTITION BY LIST (region);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES IN ('a%%') PARTITION BY HASH (row_id);
        CREATE TABLE t_11 PARTITION OF t_1 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE archive.t_12 PARTITION OF t_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        CREATE TABLE t_2 PARTITION OF t DEFAULT;
        CREATE INDEX ON t (row_id)
    """,
    "attached in another order": f"""
        CREATE TABLE t ({KEYED}) PARTITION BY LIST (region);
        CREATE TABLE t_1 (region text NOT NULL, gone int, id int, row_id int NOT NULL);
        ALTER TABLE t_1 DROP gone;
        ALTER TABLE t ATTACH PARTITION t_1 FOR VALUES IN ('b');
        CREATE TABLE t_2 PARTITION OF t DEFAULT
    """,
    "inherited": """
        CREATE TABLE t (row_id int NOT NULL, id int, region text);
        CREATE TABLE t_1 () INHERITS (t);
        CREATE TABLE t_2 () INHERITS (t_1);
        CREATE RULE into_1 AS ON INSERT TO t WHERE NEW.region = 'b' DO INSTEAD INSERT INTO t_1 VALUES (NEW.*);
        CREATE RULE into_2 AS ON INSERT TO t WHERE NEW.region = 'c' DO INSTEAD INSERT INTO t_2 VALUES (NEW.*)
    """,
}
ROWS = "INSERT INTO t SELECT n, CASE WHEN n % 11 > 0 THEN n * 7 % 100 END, (ARRAY['a%%', 'b', 'c'])[n % 3 + 1]"


@pytest.mark.parametrize("kind", KINDS)
def test_the_condition_alone_selects_the_rows_of_a_range(connection: psycopg.Connection, kind: str) -> None:
    connection.execute(KINDS[kind])
    connection.execute(f"{ROWS} FROM generate_series(1, 900) AS n")

    @HOSTILE
    @given(
        split=st.sampled_from(["auto", *STRATEGIES]),
        key=st.sampled_from(["row_id", "id", "region", ["row_id", "region"]]),
        by_partition=st.booleans(),
        size=SIZES,
        window=st.one_of(st.none(), st.tuples(st.integers(-5, 900), st.integers(0, 500))),
        analyzed=st.booleans(),
    )
    def check(
        split: str, key: Any, by_partition: bool, size: dict[str, int], window: tuple[int, int] | None, analyzed: bool
    ) -> None:
        connection.execute("ANALYZE t" if analyzed else "DELETE FROM pg_statistic WHERE starelid = 't'::regclass")
        request: dict[str, Any] = {"key": None if split == "pages" else key}
        condition = "TRUE"
        if window and request["key"] in ("row_id", "id"):
            request |= {"start_id": window[0], "end_id": sum(window)}
            condition = f"{key} BETWEEN {window[0]} AND {sum(window)}"
        plan = planned(connection, table="t", split=split, by_partition=by_partition, **size, **request)
        if plan is None:
            return
        assert rows_in(connection, plan) == rows_of(connection, "t", condition)
        if not by_partition:
            assert {one.relation for one in plan.ranges} <= {None}
        if plan.key.is_integer and not by_partition:
            between = [one for one in plan.ranges if not one.nulls]
            if plan.key.nullable and between and between[0].lower is between[-1].upper is None and len(between) == 1:
                with pytest.raises(TypeError, match=r"can be NULL. Use key_range\.where"):
                    _ = between[0].end_id
                return
            query = "SELECT count(*) FROM t WHERE {} BETWEEN %s AND %s".format(*plan.key.names)
            counts = [connection.execute(query, [one.start_id, one.end_id]).fetchone()[0] for one in between]
            nulls = f"AND {plan.key} IS NOT NULL" if plan.window.includes_nulls else ""
            assert sum(counts) == len(rows_of(connection, "t", f"{condition} {nulls}"))

    check()


@pytest.mark.parametrize("kind", ["list", "three levels", "range with default"])
def test_a_row_stays_in_its_range_of_the_whole_table_wherever_it_moves(connection, kind: str) -> None:
    connection.execute(KINDS[kind])
    connection.execute(f"{ROWS} FROM generate_series(1, 900) AS n")

    @HOSTILE
    @given(split=st.sampled_from(list(STRATEGIES)), size=SIZES, step=st.integers(2, 9), shift=st.integers(0, 99))
    def check(split: str, size: dict[str, int], step: int, shift: int) -> None:
        plan = planned(connection, table="t", key="row_id", split=split, by_partition=False, **size)
        if plan is None:
            return
        before = ranges_of_rows(connection, plan)
        moved = "CASE region WHEN 'a%%' THEN 'b' WHEN 'b' THEN 'c' ELSE 'a%%' END"
        connection.execute(f"UPDATE t SET id = (id + {shift}) % 100, region = {moved} WHERE row_id % {step} = 0")
        assert ranges_of_rows(connection, plan) == before
        assert sorted(row for row, _ in before) == list(range(1, 901))

    check()


def ranges_of_rows(connection: psycopg.Connection, plan: RangePlan) -> list[Any]:
    """The ``row_id`` of every row of every range, with the number of the range."""
    return sorted(
        (row_id, one.index)
        for one in plan.ranges
        for (row_id,) in connection.execute(sql.SQL("SELECT row_id FROM t WHERE {}").format(one.where))
    )


def planned(connection: psycopg.Connection, **request: Any) -> RangePlan | None:
    """The plan; None where the request is refused: a strategy cannot do it, or a key of several columns has NULLs."""
    try:
        return plan_ranges(connection, max_ranges=1000, **request)
    except InvalidParameterError as refusal:
        if refusal.parameter not in ("split", "key"):
            raise
        return None


def test_a_range_of_one_partition_has_no_ids(connection: psycopg.Connection) -> None:
    connection.execute(KINDS["range with default"])
    connection.execute(f"{ROWS} FROM generate_series(1, 900) AS n")
    plan = plan_ranges(connection, table="t", key="id", ranges=9)
    one = next(one for one in plan.ranges if one.relation and not one.nulls)
    with pytest.raises(TypeError, match=r"in one partition, .* Use key_range\.where"):
        _ = one.start_id
    with pytest.raises(TypeError, match=r"in one partition, .* Use key_range\.where"):
        _ = one.end_id


def test_pages_of_partitions_of_different_size_are_balanced(connection: psycopg.Connection) -> None:
    connection.execute("""
        CREATE TABLE t (row_id int, filler text) PARTITION BY RANGE (row_id);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (1000);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (1000) TO (10000);
        CREATE TABLE t_3 PARTITION OF t DEFAULT;
        INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(0, 30000) AS n;
    """)
    plan = plan_ranges(connection, table="t", split="pages", ranges=20, by_partition=False)
    sizes = sizes_of(connection, plan)
    assert {one.relation for one in plan.ranges} == {None}
    assert max(sizes) / (sum(sizes) / len(sizes)) < 1.2
    assert rows_in(connection, plan) == list(range(30_001))


@pytest.mark.parametrize("made", ["(note text, row_id int)", "(row_id int, note text, CHECK (row_id > 0))"])
def test_a_partition_is_read_by_its_own_name_only_if_a_row_as_a_whole_is_the_same_there(
    connection: psycopg.Connection, made: str
) -> None:
    connection.execute("CREATE TABLE t (row_id int, note text) PARTITION BY RANGE (row_id)")
    connection.execute(f"CREATE TABLE t_1 {made}; ALTER TABLE t ATTACH PARTITION t_1 DEFAULT")
    connection.execute("INSERT INTO t SELECT generate_series(1, 1000); ANALYZE t_1")
    for request in ({"key": "row_id"}, {"split": "pages"}):
        plan = plan_ranges(connection, table="t", ranges=5, **request)
        assert {one.relation for one in plan.ranges} == ({None} if "(note" in made else {("public", "t_1")})
        assert rows_in(connection, plan) == list(range(1, 1001))


def test_a_virtual_column_with_another_expression_in_a_partition_is_the_table_s(connection) -> None:
    if connection.info.server_version < 180000:
        pytest.skip("Virtual columns came with PostgreSQL 18.")
    connection.execute("""
        CREATE TABLE t (row_id int, twice int GENERATED ALWAYS AS (row_id * 2) VIRTUAL) PARTITION BY RANGE (row_id);
        CREATE TABLE t_1 (row_id int, twice int GENERATED ALWAYS AS (row_id * 3) VIRTUAL);
        ALTER TABLE t ATTACH PARTITION t_1 DEFAULT;
        INSERT INTO t SELECT generate_series(1, 1000);
    """)
    assert connection.execute("SELECT sum(t.twice) <> sum(t_1.twice) FROM t JOIN t_1 USING (row_id)").fetchone()[0]
    assert {one.relation for one in plan_ranges(connection, table="t", key="row_id", ranges=5).ranges} == {None}
