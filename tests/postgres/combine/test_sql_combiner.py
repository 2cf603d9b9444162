"""Combined totals equal PostgreSQL's."""

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from burla_provider.combine.exact_sum import ExactSum, order_key
from burla_provider.combine.sql_combiner import SqlCombiner, extremum_on_server, sum_on_server
from burla_provider.worker.aggregates import Aggregate
from burla_provider.worker.source import Source

same_server = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)

numerics = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=places)
    for places in (0, 2, 12, 25)
)
tiny = st.integers(-(10**6), 10**6).map(lambda value: Decimal(value).scaleb(-40))
special = st.sampled_from([Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity")])


def on_server(connection, expression, values):
    query = f"SELECT ({expression})::text FROM unnest(%s::text[]) AS t, LATERAL (SELECT t::numeric AS v) AS n"
    return connection.execute(query, [[text(value) for value in values]]).fetchone()[0]


def total(values):
    exact = ExactSum()
    for value in values:
        exact.add(value)
    return exact.result


def average(connection, total, count):
    """Return the average that ``SqlCombiner`` computes from the partial values of two ranges."""
    combiner = SqlCombiner((Aggregate("x", "avg", "a", type="numeric", argument_type="numeric"),), Source("s", "t"))
    combiner.add(0, {"x": [total, count]})
    combiner.add(1, {"x": [None, 0]})
    return combiner.result(connection)["x"]


def text(value):
    return format(value, "f") if value.is_finite() else str(value)


@same_server
@given(values=st.lists(st.one_of(numerics, tiny), min_size=1, max_size=20))
def test_sums_have_the_digits_of_the_server(connection, values):
    assert text(total(values)) == on_server(connection, "sum(v)", values)


@same_server
@given(values=st.lists(st.one_of(numerics, tiny), min_size=1, max_size=20))
def test_averages_have_the_digits_of_the_server(connection, values):
    assert text(average(connection, total(values), len(values))) == on_server(connection, "avg(v)", values)


@same_server
@given(values=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9))
def test_averages_of_ints_have_the_digits_of_the_server(connection, values):
    assert text(average(connection, total(values), len(values))) == on_server(
        connection, "avg(v)", map(Decimal, values)
    )


def test_an_average_rounds_half_away_from_zero(connection):
    assert str(average(connection, Decimal("-1"), 3)) == "-0.33333333333333333333"
    assert str(average(connection, Decimal("2"), 3)) == "0.66666666666666666667"


def test_an_average_is_weighted_by_row_count(connection):
    combiner = SqlCombiner((Aggregate("x", "avg", "a", type="numeric", argument_type="numeric"),), Source("s", "t"))
    combiner.add(0, {"x": [Decimal("1"), 1]})
    combiner.add(1, {"x": [Decimal("5"), 2]})
    assert combiner.result(connection)["x"] == 2


@same_server
@given(values=st.lists(st.one_of(numerics, special), min_size=1, max_size=5))
def test_nan_and_infinity_are_treated_as_the_server_does(connection, values):
    if connection.info.server_version < 140000:
        pytest.skip("numeric has no infinity before PostgreSQL 14")
    assert text(total(values)) == on_server(connection, "sum(v)", values)
    assert text(average(connection, total(values), len(values))) == on_server(connection, "avg(v)", values)
    # If values are equal but have other scales (0 and 0.00), the server's choice depends on their order.
    for function, ours in (("min(v)", min(values, key=order_key)), ("max(v)", max(values, key=order_key))):
        assert order_key(Decimal(on_server(connection, function, values))) == order_key(ours)


STYLES = {"datestyle": "SQL, DMY", "timezone": "Asia/Kolkata", "intervalstyle": "sql_standard"}
MOMENTS = ["2026-02-01 10:00:00+05:30", "2026-01-02 23:59:59.5+00"]


@pytest.mark.parametrize("in_transaction", [False, True])
def test_the_text_of_a_total_does_not_depend_on_the_role_s_settings(connection, in_transaction):
    for name, value in STYLES.items():
        connection.execute(f"SET {name} = '{value}'")
    if in_transaction:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    like = sql.SQL("SELECT now() WHERE false")
    for _ in range(10):  # often enough to be prepared
        latest = extremum_on_server(connection, "max", "timestamp with time zone", MOMENTS, like)
        assert latest == "2026-02-01 10:00:00+05:30"
    assert sum_on_server(connection, "interval", ["-1 day", "-1 mon"]) == "-1 mons -1 days"
    for name, value in STYLES.items():
        assert connection.execute(f"SHOW {name}").fetchone() == (value,)


@pytest.mark.parametrize(
    ("function", "type_name", "values"),
    [
        ("sum", "interval", ["3 days", "-1 mons", "7 hours", "1 day 00:00:01"]),
        ("avg", "interval", ["3 days", "-1 mons", "7 hours", "1 day 00:00:01"]),
        ("sum", "money", ["$3.01", "-$1.00", "$7.00", "$0.10"]),  # there is no avg(money)
    ],
)
def test_totals_of_other_types_equal_those_of_the_server(connection, function, type_name, values):
    partial = [[values[0], 1], [None, 0], [sum_on_server(connection, type_name, values[1:]), 3]]
    total = Aggregate("x", function, "a", type=type_name, argument_type=type_name)
    combiner = SqlCombiner((total,), Source("s", "t"))
    for index, part in enumerate(partial):
        combiner.add(index, {"x": part if function == "avg" else part[:1]})
    query = f"SELECT {function}(v::{type_name})::text FROM unnest(%s::text[]) AS v"
    assert combiner.result(connection)["x"] == connection.execute(query, [values]).fetchone()[0]
