"""Windows: which rows they contain, and how bounds are parsed."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from itertools import pairwise

import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges import plan_ranges
from tests.postgres.ranges.conftest import Planner
from tests.postgres.ranges.covering import balance, rows_in, sizes_of


@pytest.fixture
def ids(connection) -> str:
    connection.execute(
        "CREATE TABLE ids AS SELECT n AS row_id, n AS id FROM generate_series(1, 100) AS n;"
        "INSERT INTO ids VALUES (0, NULL); CREATE INDEX ON ids (id)"
    )
    return "ids"


@pytest.mark.parametrize(
    ("limits", "rows"),
    [
        ({"start_id": 10, "end_id": 20}, range(10, 21)),
        ({"start_id": 20, "end_id": 20}, [20]),
        ({"start_id": "10", "end_id": "20"}, range(10, 21)),
        ({"start_id": 95}, range(95, 101)),
        ({"end_id": 5}, range(1, 6)),
        ({"lower": 10, "upper": 20}, range(10, 20)),
        ({"lower": "10", "end_id": 20}, range(10, 21)),
        ({"start_id": -(10**30), "end_id": 10**30}, range(1, 101)),
        ({"start_id": 10**30, "end_id": 10**31}, []),
        ({"end_id": -(10**30)}, []),
        ({"start_id": 101, "end_id": 200}, []),
        ({}, range(101)),
    ],
)
def test_ids_are_inclusive_and_exclude_null(connection, plan: Planner, ids: str, limits, rows) -> None:
    made = plan(ids, key="id", split="keyset", rows_per_range=3, **limits)
    assert rows_in(connection, made) == list(rows)


TIMESTAMP = datetime.datetime(2024, 5, 17, 12, 30, 15, 250_000)


@pytest.mark.parametrize(
    ("kind", "lower", "text"),
    [
        ("timestamptz", "2024-05-17T12:30:15.25+00:00", "2024-05-17 14:30:15.25+02"),
        ("timestamptz", "2024-05-17 12:30:15.25", "2024-05-17 12:30:15.25+02"),
        ("timestamptz", TIMESTAMP.replace(tzinfo=datetime.UTC), "2024-05-17 14:30:15.25+02"),
        ("timestamp", "2024-05-17 12:30:15.25+00:00", "2024-05-17 12:30:15.25"),
        ("timestamp", TIMESTAMP, "2024-05-17 12:30:15.25"),
        ("date", datetime.date(2024, 5, 17), "2024-05-17"),
        ("date", "2024-05-17 00:00:00+00:00", "2024-05-17"),
        ("date", "17.05.2024", "2024-05-17"),
        ("date", "3.2.2024", "2024-02-03"),
        ("uuid", uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ("numeric", Decimal("7.50"), "7.50"),
        ("text", "it's %s {0} \\", "it's %s {0} \\"),
        ("bytea", b"\0'", "\\x0027"),
    ],
)
def test_bounds_are_parsed_with_the_sessions_settings(connection, plan: Planner, kind: str, lower, text: str) -> None:
    connection.execute("SET datestyle = 'German'; SET timezone = 'Europe/Berlin'")
    connection.execute(f"CREATE TABLE typed (row_id int, k {kind})")
    assert plan("typed", key="k", lower=lower).window.lower == (text,)


def test_a_bound_of_two_columns_is_a_list(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE TABLE pairs AS SELECT n AS row_id, n / 10 AS a, (n % 10)::text AS b FROM generate_series(0, 99) AS n"
    )
    connection.execute("ALTER TABLE pairs ADD PRIMARY KEY (a, b)")
    made = plan("pairs", lower=[2, "5"], upper=[4, "1"], split="keyset", rows_per_range=4)
    assert rows_in(connection, made) == list(range(25, 41))


@pytest.mark.parametrize(("key", "bound"), [("name", "None"), (["name", "id"], ["None", 1])])
@pytest.mark.parametrize("parameter", ["lower", "upper"])
def test_the_text_of_a_template_without_a_value_is_refused(connection, plan: Planner, key, bound, parameter) -> None:
    connection.execute("CREATE TABLE people (id int, name text, PRIMARY KEY (name, id))")
    with pytest.raises(InvalidParameterError, match=rf"^{parameter}: got 'None', the text of a template without"):
        plan("people", key=key, **{parameter: bound})


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
@pytest.mark.parametrize("lower", ["now", "now()", "Today", "yesterday 12:00"])
def test_a_bound_relative_to_now_is_refused(connection, plan, kind: str, lower: str) -> None:
    connection.execute(f"CREATE TABLE visits (at {kind})")
    with pytest.raises(InvalidParameterError, match=r"lower: .* has another value each time"):
        plan("visits", key="at", lower=lower)


@pytest.mark.parametrize(
    "window",
    [
        {"freeze_upper": True},
        {"upper": [9, 45001]},
        {"upper": [9, 25001]},
        {"lower": [0, 0], "upper": [9, 45001]},
        {"lower": [9, 25001], "upper": [9, 35001]},
        {"lower": [9, 25001]},
        {"lower": [7, 0], "upper": [8, 0]},
        {"lower": [7, 0], "upper": [9, 0]},
    ],
)
@pytest.mark.parametrize("split", ["auto", "histogram"])
def test_a_window_can_end_within_the_rows_of_a_frequent_value(connection, plan: Planner, window, split: str) -> None:
    connection.execute(
        "CREATE TABLE tasks AS SELECT CASE WHEN n > 5000 THEN 9 WHEN n > 1000 THEN 7 ELSE n % 7 END AS status, n AS id"
        " FROM generate_series(1, 45000) AS n"
    )
    connection.execute("ALTER TABLE tasks ADD PRIMARY KEY (status, id); ANALYZE tasks")
    made = plan("tasks", split=split, ranges=16, **window)
    sizes = sizes_of(connection, made)
    assert len(sizes) >= 12
    assert balance(sizes) < 1.7
    assert made.expected_rows == pytest.approx(sum(sizes), rel=0.2)


def test_estimates_include_rows_with_the_first_value_of_the_upper_bound(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE TABLE tasks AS SELECT CASE WHEN n > 5000 THEN 9 ELSE n % 7 END AS status, n AS id"
        " FROM generate_series(1, 120000) AS n"
    )
    connection.execute("ALTER TABLE tasks ADD PRIMARY KEY (status, id); ANALYZE tasks")
    made = plan("tasks", freeze_upper=True)
    assert made.strategy == "histogram"
    assert made.expected_rows == pytest.approx(120_000, rel=0.01)
    assert balance(sizes_of(connection, made)) < 1.6


def test_the_windows_of_consecutive_runs_contain_each_row_once(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE TABLE events AS SELECT n AS row_id, timestamptz '2024-03-30 00:00Z' + n * interval '37 minutes' AS at"
        " FROM generate_series(0, 199) AS n"
    )
    days = [f"2024-{day}T00:00:00+00:00" for day in ("03-30", "03-31", "04-01", "04-02", "04-03", "04-04", "04-05")]
    seen = []
    for lower, upper in pairwise(days):
        seen += rows_in(connection, plan("events", key="at", lower=lower, upper=upper, ranges=5))
    assert sorted(seen) == list(range(len(seen)))
    assert len(seen) > 190


@pytest.mark.parametrize("name", ["lower", "upper"])
def test_a_utc_offset_is_not_silently_ignored(connection, plan: Planner, name: str) -> None:
    connection.execute("CREATE TABLE naive (at timestamp)")
    with pytest.raises(InvalidParameterError, match=rf"{name}: .* UTC offset, but the column at has no time zone"):
        plan("naive", key="at", **{name: "2024-05-17T12:30:00+02:00"})


@pytest.mark.parametrize("name", ["lower", "upper"])
@pytest.mark.parametrize(
    "bound",
    [
        "2024-05-16T22:00:00+00:00",
        datetime.datetime(2024, 5, 17, 12, 30),
        datetime.datetime(2024, 5, 16, 22, tzinfo=datetime.UTC),
    ],
)
def test_a_time_of_day_is_not_silently_ignored(connection, plan: Planner, name: str, bound) -> None:
    connection.execute("CREATE TABLE daily (day date)")
    with pytest.raises(InvalidParameterError, match=rf"{name}: .* has a time of day, but the column day is a date"):
        plan("daily", key="day", **{name: bound})


def test_ranges_of_a_window_without_rows_are_empty(connection, plan: Planner, ids: str) -> None:
    connection.execute("ANALYZE ids")
    made = plan_ranges(connection, table=ids, key="id", start_id=5000, end_id=6000)
    assert rows_in(connection, made) == []
