"""Requests that cannot be planned are refused with the name of the parameter."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import psycopg
import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges import pages_choice, plan_ranges
from tests.postgres.ranges.conftest import Planner
from tests.support.postgres import PostgresServer

SCHEMA = """
    CREATE TABLE orders (
        id bigint PRIMARY KEY, amount numeric, note text NOT NULL, doc json, at timestamptz, loose int
    );
    CREATE VIEW seen AS SELECT * FROM orders;
    CREATE SEQUENCE counter;
    CREATE SCHEMA sales;
    CREATE TABLE sales.invoices (id bigint PRIMARY KEY);
    CREATE TEMPORARY TABLE passing (id bigint PRIMARY KEY);
    INSERT INTO orders SELECT n, n, n::text FROM generate_series(1, 3000) AS n;
"""


@pytest.fixture(scope="module")
def orders(postgres_server: PostgresServer) -> Iterator[psycopg.Connection]:
    """A connection to a database that no test of this module changes."""
    with postgres_server.database() as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(SCHEMA)
        yield connection


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"table": "parcels"}, r'table: "parcels" not found in database \w+. Without a schema'),
        ({"table": "order_s"}, r'table: "order_s" not found in database \w+. Did you mean public.orders\?'),
        ({"table": "sales.invoice"}, r'table: "sales.invoice" not found .* Did you mean sales.invoices\?'),
        ({"table": "invoices"}, r'table: "invoices" not found .* Did you mean sales.invoices\?'),
        ({"table": "no.orders"}, 'table: "no.orders" not found in database'),
        ({"table": "a b c"}, "table: .* Write it as in SQL"),
        ({"table": ""}, "table: .* Write it as in SQL"),
        ({"table": "counter"}, "table: counter is not a table."),
        ({"table": "passing"}, "table: passing is temporary"),
        ({"table": "seen"}, "key: public.seen is a view and has no unique key.*Name the column to split by"),
        ({"table": "seen", "split": "pages"}, "split: public.seen is a view, whose pages cannot be read"),
        ({"key": "amuont"}, r"key: public.orders has no column amuont. Did you mean amount\?"),
        ({"key": "zzz"}, "key: public.orders has no column zzz. Its columns are id, amount, note"),
        ({"key": []}, r"key: must be a column or a list of different columns, got \[\]"),
        ({"key": ["id", "id"]}, r"key: must be a column or a list of different columns, got \['id', 'id'\]"),
        ({"key": ["id", "loose"]}, "key: loose can be NULL"),
        ({"key": "doc"}, "key: operator does not exist: json >= json. Choose a key whose type can be sorted"),
        ({"key": "doc", "lower": "1", "upper": "2"}, "key: "),
        ({"start_id": "x"}, "start_id: must be an integer, got 'x'"),
        ({"start_id": 1.5}, "start_id: must be an integer, got 1.5"),
        ({"end_id": True}, "end_id: must be an integer, got True"),
        (
            {"start_id": 1, "key": "note"},
            r"start_id: requires a key of one integer column, got note \(text\). Use lower and upper",
        ),
        (
            {"end_id": 1, "key": ["id", "note"]},
            r"end_id: requires a key of one integer column, got id, note \(bigint, text\)",
        ),
        ({"start_id": 2, "end_id": 1}, "start_id: no key is between 2 .* Give start_id and end_id"),
        ({"start_id": 10**40, "end_id": 10**39}, "start_id: no key is between"),
        ({"lower": 5, "upper": 5}, r"lower: no key is between 5 \(inclusive\) and 5 \(exclusive\)"),
        ({"key": "note", "lower": "b", "upper": "a"}, "lower: no key is between b"),
        ({"key": "note", "lower": "b", "upper": "b"}, "lower: no key is between b"),
        ({"start_id": 1, "lower": 1}, "start_id: cannot be combined with lower"),
        ({"end_id": 1, "upper": 1}, "end_id: cannot be combined with upper"),
        ({"lower": "many"}, 'lower: invalid input syntax for type bigint: "many". The type of the key id is bigint'),
        ({"upper": 2**63}, 'upper: value "9223372036854775808" is out of range for type bigint'),
        ({"key": "at", "lower": "2024-02-30"}, "lower: date/time field value out of range"),
        ({"lower": [1, 2]}, r"lower: must have 1 value\(s\) for the key id, got \[1, 2\]"),
        ({"lower": 1.5}, "lower: must be an exact value, got 1.5"),
        ({"where": "amount >"}, "where: syntax error at or near"),
        ({"where": "amont > 5"}, 'where: column "amont" does not exist'),
        ({"where": "amount"}, "where: argument of AND must be type boolean"),
        ({"where": "count(*) > 5"}, "where: aggregate functions are not allowed"),
        (
            {"split": "even"},
            "split: 'even' is unknown. Use one of: auto, width, histogram, probed, keyset",
        ),
        ({"split": "width", "key": "note"}, r"split: 'width' is not supported for the key note \(text\)"),
        ({"split": "width", "key": ["id", "note"]}, "split: 'width' is not supported for the key id, note"),
        ({"split": "histogram", "key": "loose"}, "split: this role sees no statistics of loose. ANALYZE the table"),
        ({"split": "pages", "key": "id"}, "key: is not supported with split='pages'"),
        ({"split": "pages", "lower": 5}, "lower: is not supported with split='pages', which has no key. Use where"),
        ({"split": "pages", "refine": True}, "refine: is not supported with split='pages'"),
        ({"split": "single", "refine": True}, "refine: is not supported with split='single'"),
        (
            {"split": "width", "key": "loose", "refine": True, "ranges": 2},
            "refine: requires an index in the order of loose",
        ),
        ({"ranges": 0}, "ranges: must be a positive integer, got 0"),
        ({"rows_per_range": -1}, "rows_per_range: must be a positive integer, got -1"),
        ({"parallelism": 1.5}, "parallelism: must be a positive integer, got 1.5"),
        ({"max_ranges": True}, "max_ranges: must be a positive integer, got True"),
        ({"ranges": 5, "rows_per_range": 5}, "ranges: cannot be combined with rows_per_range"),
        ({"ranges": 11, "max_ranges": 10}, "ranges: the plan would have at least 11 ranges, and the maximum is 10"),
        ({"rows_per_range": 10, "max_ranges": 10}, "rows_per_range: the plan would have at least 11 ranges"),
        (
            {"rows_per_range": 1, "split": "width", "start_id": 0, "end_id": 10**15},
            "rows_per_range: the plan would have at least 1,000,000,000,000,001 ranges",
        ),
    ],
)
def test_a_bad_request_is_refused(orders: psycopg.Connection, request_: dict, message: str) -> None:
    request_ = {"table": "orders", **request_}
    with pytest.raises(InvalidParameterError, match=message):
        plan_ranges(orders, **request_)


def test_a_table_that_the_role_cannot_read_is_refused(connection, plan: Planner) -> None:
    connection.execute(SCHEMA)
    role = f"stranger_{connection.info.backend_pid}"
    connection.execute(f"CREATE ROLE {role}; SET ROLE {role}")
    with pytest.raises(InvalidParameterError, match=r"table: this role cannot read public\.orders"):
        plan("orders")
    with pytest.raises(InvalidParameterError, match="table: permission denied for schema sales"):
        plan("sales.invoices")
    connection.execute(f"RESET ROLE; GRANT SELECT (note) ON orders TO {role}; SET ROLE {role}")
    with pytest.raises(InvalidParameterError, match="key: permission denied for table orders"):
        plan("orders", ranges=2)
    connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


def test_pages_require_a_server_with_tid_range_scans(connection, plan: Planner, monkeypatch) -> None:
    connection.execute(SCHEMA)
    monkeypatch.setattr(pages_choice, "_TID_RANGE_SCAN_SINCE", connection.info.server_version + 1)
    with pytest.raises(InvalidParameterError, match=r"split: PostgreSQL \d+ cannot read a range of pages"):
        plan("orders", split="pages")


def test_a_statement_timeout_does_not_blame_a_parameter(connection, plan: Planner) -> None:
    connection.execute(SCHEMA)
    connection.execute("CREATE VIEW slow AS SELECT id FROM orders, pg_sleep(1)")
    connection.execute("SET statement_timeout = '50ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        plan("slow", key="id", split="keyset", ranges=3)


def test_garbage_collection_resumes_after_a_failed_plan(orders: psycopg.Connection) -> None:
    with pytest.raises(InvalidParameterError):
        plan_ranges(orders, table="ordes")
    assert gc.isenabled()
