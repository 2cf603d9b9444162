"""Every row of a table with unusual keys is in exactly one range, as PostgreSQL counts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges import RangePlan, plan_ranges
from tests.postgres.ranges.covering import rows_in, rows_of

EDGES = {
    "smallint": [-(2**15), -1, 0, 1, 2**15 - 1],
    "integer": [-(2**31), -1, 0, 1, 2**31 - 1],
    "bigint": [-(2**63), -(2**63) + 1, -1, 0, 1, 2**63 - 2, 2**63 - 1],
}
MOMENTS = [
    "infinity",
    "-infinity",
    "0044-03-15 00:00:00 BC",
    "0001-01-01 00:00:00",
    "1969-12-31 23:59:59.999999",
    "1970-01-01 00:00:00",
    "2024-02-29 12:00:00.000001",
    "9999-12-31 23:59:59",
    "19999-01-01 00:00:00",
]
TEXTS = [
    "",
    " ",
    "a",
    "A",
    "ä",
    "Z",
    "a'b",
    'a"b',
    "a\\b",
    "%s %",
    "{0}",
    "a b",
    "a-b",
    "ab",
    "\t",
    "漢",
    "😀",
    "e\u0301",
]

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


def _integers(kind: str) -> st.SearchStrategy[str]:
    least, greatest = EDGES[kind][0], EDGES[kind][-1]
    clustered = st.integers(1000, 1060)
    return st.one_of(st.sampled_from(EDGES[kind]), clustered, st.integers(least, greatest)).map(str)


def _dates(value: str) -> str:
    day, _, era = value.partition(" ")
    return day + (" BC" if era.endswith("BC") else "")


KEYS: dict[str, st.SearchStrategy[str]] = {
    **{kind: _integers(kind) for kind in EDGES},
    "numeric": st.one_of(
        st.sampled_from(["NaN", "Infinity", "-Infinity", "0", "1e40", "0.5", "0.50"]),
        st.sampled_from([f"{sign}1e{power}" for sign in ("", "-") for power in (-400, 309, 400, 700, 1000)]),
        st.integers(-(10**30), 10**30).map(str),
        st.decimals(-5, 5, places=2).map(str),
    ),
    "uuid": st.one_of(
        st.uuids().map(str), st.sampled_from([f"{n:032x}" for n in (0, 1, 2**128 - 1, 2**64, 2**64 + 1)])
    ),
    "text": st.one_of(
        st.sampled_from(TEXTS), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
    ),
    'text COLLATE "C"': st.sampled_from(TEXTS),
    "text COLLATE german": st.sampled_from(TEXTS),
    "text COLLATE any_case": st.sampled_from(TEXTS),
    "varchar(20)": st.sampled_from(TEXTS),
    "char(6)": st.sampled_from([text for text in TEXTS if len(text) < 6]),
    "date": st.one_of(st.sampled_from(MOMENTS).map(_dates), st.dates().map(str)),
    "timestamp": st.one_of(st.sampled_from(MOMENTS), st.datetimes().map(str)),
    "timestamptz": st.one_of(st.sampled_from(MOMENTS), st.datetimes().map(lambda moment: f"{moment}+05:45")),
    "double precision": st.one_of(st.sampled_from(["NaN", "Infinity", "-0", "1e-300"]), st.floats(width=32).map(str)),
    "bytea": st.binary(max_size=4).map(lambda value: "\\x" + value.hex()),
    "boolean": st.sampled_from(["true", "false"]),
    "positive": st.integers(1, 2**63 - 1).map(str),
    "mood": st.sampled_from(["sad", "ok", "happy"]),
    "integer[]": st.lists(st.integers(-3, 3), max_size=3).map(lambda values: "{" + ",".join(map(str, values)) + "}"),
    "interval": st.sampled_from(["1 day", "24 hours", "-1 mon", "1 year 2 days 03:04:05.000006", "0"]),
}


@dataclass(frozen=True)
class Table:
    """A hostile table: its keys (None is NULL), and what the server knows of it."""

    keys: list[str | None]
    indexed: bool
    analysed: bool
    grown_by: list[str | None] = field(default_factory=list)


def tables(values: st.SearchStrategy[str], *, nulls: bool = True) -> st.SearchStrategy[Table]:
    keys = st.one_of(values, st.none()) if nulls else values
    # Some keys many times over.
    heaps = st.lists(st.tuples(keys, st.sampled_from([1, 1, 1, 2, 25])), max_size=40)
    flat = heaps.map(lambda pairs: [key for key, times in pairs for _ in range(times)])
    return st.builds(Table, flat, st.booleans(), st.booleans(), st.one_of(st.just([]), st.lists(keys, max_size=20)))


BY_KEY = st.sampled_from(["auto", "auto", "keyset", "histogram", "probed", "width", "single"])
SIZES = st.one_of(
    st.integers(1, 30).map(lambda number: {"ranges": number}),
    st.integers(1, 30).map(lambda number: {"rows_per_range": number}),
    st.just({}),
)
HOSTILE = settings(
    max_examples=int(os.environ.get("BURLA_TEST_EXAMPLES", "10")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def prepare(connection: psycopg.Connection, kind: str) -> None:
    """Makes what some types need."""
    connection.execute("CREATE DOMAIN positive AS bigint CHECK (VALUE > 0)")
    connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')")
    if "german" in kind or "any_case" in kind:
        try:
            connection.execute("CREATE COLLATION german (provider = icu, locale = 'de')")
            # Here 'a' = 'A'.
            connection.execute(
                "CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
            )
        except psycopg.errors.FeatureNotSupported:
            pytest.skip("This server is built without ICU.")


def create(connection: psycopg.Connection, kind: str, table: Table) -> None:
    connection.execute("DROP TABLE IF EXISTS hostile")
    connection.execute(f"CREATE TABLE hostile (row_id bigserial, k {kind})")
    if table.indexed:
        connection.execute("CREATE INDEX ON hostile (k)")
    insert(connection, table.keys)
    if table.analysed:
        connection.execute("ANALYZE hostile")
    insert(connection, table.grown_by)


def insert(connection: psycopg.Connection, keys: list[str | None]) -> None:
    with connection.cursor().copy("COPY hostile (k) FROM STDIN") as copy:
        for key in keys:
            copy.write_row((key,))


def planned(connection: psycopg.Connection, split: str, *refusable: str, **request: Any) -> RangePlan | None:
    """The plan; None where the strategy says that it cannot. "auto" and "keyset" always can.

    :param refusable: parameters that may be refused all the same.
    """
    try:
        return plan_ranges(connection, split=split, max_ranges=1000, **request)
    except InvalidParameterError as refusal:
        if split in ("auto", "keyset") and refusal.parameter not in refusable:
            raise
        return None


@pytest.mark.parametrize("kind", KEYS)
def test_every_row_is_in_exactly_one_range(connection: psycopg.Connection, kind: str) -> None:
    prepare(connection, kind)

    @HOSTILE
    @given(
        table=tables(KEYS[kind]),
        split=st.one_of(BY_KEY, st.just("pages")),
        size=SIZES,
        refine=st.booleans(),
        freeze=st.booleans(),
    )
    def check(table: Table, split: str, size: dict[str, int], refine: bool, freeze: bool) -> None:
        create(connection, kind, table)
        key = None if split == "pages" else "k"
        # For some types, nothing is known to come behind the greatest key.
        refusable = ["key"] if freeze else []
        plan = planned(
            connection, split, *refusable, table="hostile", key=key, refine=refine, freeze_upper=freeze, **size
        )
        assert plan is None or rows_in(connection, plan) == rows_of(connection, "hostile")

    check()


@pytest.mark.parametrize("kind", KEYS)
def test_a_window_contains_exactly_its_rows(connection: psycopg.Connection, kind: str) -> None:
    prepare(connection, kind)

    @HOSTILE
    @given(table=tables(KEYS[kind]), ends=st.tuples(KEYS[kind], KEYS[kind]), split=BY_KEY, size=SIZES)
    def check(table: Table, ends: tuple[str, str], split: str, size: dict[str, int]) -> None:
        create(connection, kind, table)
        lower, upper = ends
        plan = planned(connection, split, "lower", table="hostile", key="k", lower=lower, upper=upper, **size)
        type_ = sql.SQL(kind.partition(" COLLATE")[0])
        condition = sql.SQL("k >= {0}::{2} AND k < {1}::{2}").format(lower, upper, type_).as_string(connection)
        assert plan is None or rows_in(connection, plan) == rows_of(connection, "hostile", condition)

    check()


PAIRS = st.tuples(_integers("smallint"), st.sampled_from(TEXTS))
PARTS = [1000, 1010, 1030, 1040, 1059]
"""Where partitions begin and end; the default one has the rest, NULL too."""


def make_pairs(connection: psycopg.Connection, columns: str, pairs: list[tuple[Any, Any]], analysed: bool) -> None:
    connection.execute("DROP TABLE IF EXISTS pair")
    connection.execute(f"CREATE TABLE pair (row_id bigserial, {columns})")
    with connection.cursor().copy("COPY pair (a, b) FROM STDIN") as copy:
        for pair in pairs:
            copy.write_row(pair)
    if analysed:
        connection.execute("ANALYZE pair")


@HOSTILE
@given(pairs=st.lists(PAIRS, max_size=60), split=BY_KEY, size=SIZES, analysed=st.booleans(), freeze=st.booleans())
def test_every_row_is_in_exactly_one_range_of_two_columns(
    connection: psycopg.Connection,
    pairs: list[tuple[str, str]],
    split: str,
    size: dict[str, int],
    analysed: bool,
    freeze: bool,
) -> None:
    make_pairs(connection, "a smallint, b text, PRIMARY KEY (a, b, row_id)", pairs, analysed)
    plan = planned(connection, split, table="pair", key=["a", "b"], freeze_upper=freeze, **size)
    assert plan is None or rows_in(connection, plan) == rows_of(connection, "pair")


FEW = st.integers(1, 4)


@HOSTILE
@given(
    pairs=st.lists(st.tuples(FEW, st.integers(1, 200)), unique=True, max_size=200),
    ends=st.tuples(st.one_of(st.none(), st.tuples(FEW, st.integers(0, 201))), st.tuples(FEW, st.integers(0, 201))),
    split=BY_KEY,
    size=SIZES,
    analysed=st.booleans(),
)
def test_a_window_of_two_columns_contains_exactly_its_rows(
    connection: psycopg.Connection,
    pairs: list[tuple[int, int]],
    ends: tuple[tuple[int, int] | None, tuple[int, int]],
    split: str,
    size: dict[str, int],
    analysed: bool,
) -> None:
    make_pairs(connection, "a smallint, b int, PRIMARY KEY (a, b)", pairs, analysed)
    lower, upper = ends
    plan = planned(connection, split, "lower", table="pair", lower=lower, upper=upper, **size)
    condition = f"(a, b) >= ({', '.join(map(str, lower or (0, 0)))}) AND (a, b) < ({', '.join(map(str, upper))})"
    assert plan is None or rows_in(connection, plan) == rows_of(connection, "pair", condition)


@HOSTILE
@given(
    keys=st.lists(st.one_of(_integers("integer"), st.none()), max_size=80),
    split=st.one_of(BY_KEY, st.just("pages")),
    size=SIZES,
    indexed=st.booleans(),
    analysed=st.booleans(),
    window=st.one_of(st.none(), st.tuples(st.integers(990, 1070), st.integers(0, 40))),
)
def test_every_row_of_a_partitioned_table_is_in_exactly_one_range(
    connection: psycopg.Connection,
    keys: list[str | None],
    split: str,
    size: dict[str, int],
    indexed: bool,
    analysed: bool,
    window: tuple[int, int] | None,
) -> None:
    connection.execute("DROP TABLE IF EXISTS parted")
    connection.execute("CREATE TABLE parted (row_id bigserial, k integer) PARTITION BY RANGE (k)")
    connection.execute("CREATE TABLE parted_rest PARTITION OF parted DEFAULT")
    for number, (start, end) in enumerate(pairwise(PARTS)):
        connection.execute(f"CREATE TABLE parted_{number} PARTITION OF parted FOR VALUES FROM ({start}) TO ({end})")
    if indexed:
        connection.execute("CREATE INDEX ON parted (k)")
    with connection.cursor().copy("COPY parted (k) FROM STDIN") as copy:
        for key in keys:
            copy.write_row((key,))
    if analysed:
        connection.execute("ANALYZE parted")
    bounds, condition = {}, "TRUE"
    if window and split != "pages":
        bounds = {"start_id": window[0], "end_id": sum(window)}
        condition = f"k BETWEEN {window[0]} AND {sum(window)}"
    plan = planned(connection, split, table="parted", key=None if split == "pages" else "k", **bounds, **size)
    assert plan is None or rows_in(connection, plan) == rows_of(connection, "parted", condition)
