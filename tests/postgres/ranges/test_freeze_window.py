"""A frozen window contains the rows that exist now, and no rows that are inserted later."""

from __future__ import annotations

import pytest

from burla_provider.exceptions import InvalidParameterError
from tests.postgres.ranges.conftest import Planner
from tests.postgres.ranges.covering import rows_in, rows_of


@pytest.mark.parametrize(
    ("kind", "now", "later", "upper"),
    [
        ("integer", "7", "8", "8"),
        ("bigint", "-1", "0", "0"),
        ("numeric", "7.25", "7.26", "7.26"),
        ("date", "2024-02-28", "2024-02-29", "2024-02-29"),
        ("date", "9999-12-31", "10000-01-01", "10000-01-01"),
        ("date", "0044-03-15 BC", "0044-03-16 BC", "0044-03-16 BC"),
        ("timestamp", "2024-12-31 23:59:59.999999", "2025-01-01", "2025-01-01 00:00:00"),
        ("timestamp", "20224-05-17 12:30:00", "20224-05-17 12:30:00.000001", "20224-05-17 12:30:00.000001"),
        ("uuid", "00000000-0000-0000-0000-0000000000ff", "00000000-0000-0000-0000-000000000100", None),
        ("text", "order-9", "order-90", "order-9 "),
        ("text", "z", "za", "z "),
        ("char(5)", "z", "za", "z0"),
    ],
)
def test_the_window_ends_after_the_maximum_key(connection, plan: Planner, kind, now, later, upper) -> None:
    connection.execute(f"CREATE TABLE growing (row_id bigserial, k {kind})")
    connection.execute("INSERT INTO growing (k) VALUES (%s), (%s), (NULL)", (now, now))
    before = rows_of(connection, "growing")
    made = plan("growing", key="k", freeze_upper=True, ranges=2)
    connection.execute("INSERT INTO growing (k) VALUES (%s)", (later,))
    assert rows_in(connection, made) == before
    assert made.window.upper == (upper or later,)


def test_the_window_ends_after_the_maximum_pair(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE pairs (row_id bigserial, a int, b smallint, PRIMARY KEY (a, b))")
    connection.execute("INSERT INTO pairs (a, b) VALUES (1, 1), (2, 32767)")
    made = plan("pairs", freeze_upper=True)
    assert made.window.upper == ("3", "-32768")
    connection.execute("INSERT INTO pairs (a, b) VALUES (3, -32768)")
    assert rows_in(connection, made) == [1, 2]


@pytest.mark.parametrize(
    ("kind", "maximum"),
    [
        ("bigint", 2**63 - 1),
        ("date", "infinity"),
        ("uuid", "f" * 32),
        ("numeric", "NaN"),
        ("real", "NaN"),
        ("boolean", "true"),
    ],
)
def test_the_window_stays_open_after_the_maximum_of_a_type(connection, plan: Planner, kind, maximum) -> None:
    connection.execute(f"CREATE TABLE full_up (row_id bigserial, k {kind})")
    connection.execute("INSERT INTO full_up (k) VALUES (%s)", (maximum,))
    made = plan("full_up", key="k", freeze_upper=True)
    assert made.window.upper is None
    assert rows_in(connection, made) == [1]


def test_an_empty_table_has_no_ranges_and_stays_empty(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE nothing (row_id bigserial, id bigint PRIMARY KEY)")
    made = plan("nothing", freeze_upper=True)
    connection.execute("INSERT INTO nothing (id) VALUES (1)")
    assert made.ranges == ()
    assert made.expected_rows == 0


def test_keys_that_are_all_null_get_a_range(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE nulls AS SELECT n AS row_id, NULL::int AS k FROM generate_series(1, 3) AS n")
    made = plan("nulls", key="k", freeze_upper=True)
    assert [key_range.nulls for key_range in made.ranges] == [True]
    assert rows_in(connection, made) == [1, 2, 3]


def test_rows_with_a_null_key_are_expected_in_their_range(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE TABLE partly AS SELECT CASE WHEN n % 4 > 0 THEN n END AS k FROM generate_series(1, 8000) n"
    )
    connection.execute("CREATE INDEX ON partly (k); ANALYZE partly")
    made = plan("partly", key="k", freeze_upper=True, ranges=4)
    assert made.window.upper == ("8000",)
    assert made.ranges[-1].nulls
    assert made.ranges[-1].expected_rows == pytest.approx(2000, rel=0.05)
    assert made.expected_rows == pytest.approx(8000, rel=0.05)


def test_a_given_upper_bound_is_kept(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE bounded AS SELECT n AS id FROM generate_series(1, 100) AS n")
    assert plan("bounded", key="id", end_id=49, freeze_upper=True).window.upper == ("50",)


def test_a_window_that_starts_after_the_maximum_is_empty(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE bounded AS SELECT n AS id FROM generate_series(1, 100) AS n")
    made = plan("bounded", key="id", start_id=101, freeze_upper=True)
    assert made.ranges == ()


@pytest.mark.parametrize("kind", ["bytea", "interval", "boolean"])
def test_a_type_whose_next_value_is_unknown_is_refused(connection, plan: Planner, kind: str) -> None:
    connection.execute(f"CREATE TABLE odd (k {kind})")
    value = {"bytea": "x", "interval": "1 day", "boolean": "false"}[kind]
    connection.execute("INSERT INTO odd VALUES (%s)", (value,))
    with pytest.raises(InvalidParameterError, match="key: the next key after the maximum"):
        plan("odd", key="k", freeze_upper=True)


@pytest.mark.parametrize(
    ("kind", "maximum"),
    [
        ("date", "-infinity"),
        ("timestamptz", "-infinity"),
        ("numeric", "-Infinity"),
        ("numeric", "Infinity"),
        ("date", "5874897-12-31"),
    ],
)
def test_a_maximum_next_to_infinity_is_refused(connection, plan: Planner, kind: str, maximum: str) -> None:
    connection.execute(f"CREATE TABLE odd (k {kind})")
    connection.execute("INSERT INTO odd VALUES (%s)", (maximum,))
    with pytest.raises(InvalidParameterError, match=r"key: the next key after the maximum.*upper"):
        plan("odd", key="k", freeze_upper=True)


def test_a_last_column_without_a_greater_value_is_refused(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE odd (a int, b numeric, PRIMARY KEY (a, b)); INSERT INTO odd VALUES (1, 'NaN')")
    with pytest.raises(InvalidParameterError, match="key: the next key after the maximum, 1, NaN"):
        plan("odd", freeze_upper=True)


def test_pages_cannot_be_frozen(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE keyless (n int)")
    with pytest.raises(InvalidParameterError, match=r"key: public\.keyless is a table and has no unique key"):
        plan("keyless", freeze_upper=True)
    with pytest.raises(InvalidParameterError, match="split: 'pages'"):
        plan("keyless", split="pages", freeze_upper=True)
