"""Probes of the index in edge cases: few values, equal keys, the maximum of a type, many digits."""

from __future__ import annotations

import psycopg
import pytest

from tests.postgres.ranges.conftest import Planner, flush_counters
from tests.postgres.ranges.covering import balance, rows_in, rows_of, sizes_of


def analysed(connection: psycopg.Connection, table: str, rows: str) -> None:
    connection.execute(f"CREATE TABLE {table} AS {rows}")
    connection.execute(f"CREATE INDEX ON {table} (k); ALTER TABLE {table} ALTER k SET NOT NULL")
    connection.execute(f"ALTER TABLE {table} ADD row_id bigint GENERATED ALWAYS AS IDENTITY; ANALYZE {table}")


@pytest.mark.parametrize(
    "keys",
    [
        "(32767 - n % 3000)::smallint",
        "2147483647 - n",
        "9223372036854775807 - n",
        "(repeat('f', 28) || lpad(to_hex(65535 - n), 4, '0'))::uuid",
        "n / 7.0",
        "10::numeric ^ 400 + n",
        "date '2026-01-01' + n / 4",
        "CASE WHEN n % 50 = 0 THEN 'infinity' ELSE timestamptz '2026-01-01 00:00Z' + n * interval '1 hour' END",
    ],
)
def test_keys_at_the_end_of_their_type_and_frequent_keys_are_probed(connection, plan: Planner, keys: str) -> None:
    analysed(connection, "odd", f"SELECT {keys} AS k FROM generate_series(0, 19999) AS n")
    made = plan("odd", key="k", split="probed", ranges=500)
    assert rows_in(connection, made) == rows_of(connection, "odd")


def test_numerics_may_have_more_digits_than_the_statistics_know(connection, plan: Planner) -> None:
    analysed(connection, "prices", "SELECT n::numeric AS k FROM generate_series(1, 20000) AS n")
    connection.execute("INSERT INTO prices (k) SELECT 500 + n / 10000.0 FROM generate_series(1, 9999) AS n")
    flush_counters(connection)
    made = plan("prices", key="k", split="probed", ranges=400)
    assert rows_in(connection, made) == rows_of(connection, "prices")
    assert balance(sizes_of(connection, made)) < 4


def test_a_second_column_of_few_values_is_not_cut_by_distance(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE TABLE kinds AS SELECT CASE WHEN n % 10 = 0 THEN n ELSE 1 END AS tenant, n % 2 AS kind, n AS id"
        " FROM generate_series(1, 20000) AS n"
    )
    connection.execute("ALTER TABLE kinds ADD PRIMARY KEY (tenant, kind, id); ANALYZE kinds")
    made = plan("kinds", ranges=40)
    assert balance(sizes_of(connection, made)) < 1.6


def test_a_spike_among_the_rows_of_a_frequent_value_is_found(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE TABLE owned AS SELECT CASE WHEN n % 5 = 0 THEN n ELSE 1 END AS tenant,"
        " CASE WHEN n % 4 = 0 THEN 700000 + n ELSE n * 100 END AS id FROM generate_series(1, 20000) AS n"
    )
    connection.execute("ALTER TABLE owned ADD PRIMARY KEY (tenant, id); ANALYZE owned")
    made = plan("owned", ranges=32)
    assert balance(sizes_of(connection, made)) < 1.6
