from __future__ import annotations

from decimal import Decimal

import pytest

from burla_provider.demo.orders import Totals, create_orders, query_totals


def ignore(_):
    return None


@pytest.fixture
def orders(database):
    create_orders(database, 20_000, ignore)
    return database


def test_the_table_has_the_requested_rows_and_gaps_in_its_ids(orders, connection):
    row = connection.execute("SELECT count(*), max(id) > 1.2 * count(*) FROM orders").fetchone()
    assert row == (20_000, True)


def test_the_orders_are_always_the_same(orders):
    assert query_totals(orders) == Totals(20_000, Decimal("10316955.24"))


def test_more_rows_do_not_change_the_first_ones(orders, connection):
    query = "SELECT md5(string_agg(o::text, ',' ORDER BY id)) FROM orders AS o WHERE id <= 20000"
    before = connection.execute(query).fetchone()
    create_orders(orders, 30_000, ignore)
    assert connection.execute(query).fetchone() == before


def test_some_orders_have_no_note(orders, connection):
    without, words = connection.execute(
        "SELECT count(*) FILTER (WHERE note IS NULL), count(note) FROM orders"
    ).fetchone()
    assert without > 1_000
    assert words > 1_000


@pytest.mark.usefixtures("counted_writes")
def test_the_planner_has_statistics(orders, connection):
    query = "SELECT n_live_tup, n_mod_since_analyze FROM pg_stat_user_tables WHERE relname = 'orders'"
    assert connection.execute(query).fetchone() == (20_000, 0)


def test_an_existing_table_is_kept(orders):
    assert create_orders(orders, 20_000, ignore) is False


def test_a_table_of_another_size_is_created_again(orders):
    assert create_orders(orders, 10, ignore) is True
    assert query_totals(orders).row_count == 10


def test_a_changed_table_is_created_again(orders, connection):
    connection.execute("DELETE FROM orders WHERE id < 100")
    assert create_orders(orders, 20_000, ignore) is True


def test_progress_ends_with_all_rows(database):
    seen: list[int] = []
    create_orders(database, 600_000, seen.append)
    assert seen == [250_000, 500_000, 600_000]


def test_no_rows_at_all(database):
    assert create_orders(database, 0, ignore) is True
    assert query_totals(database) == Totals(0, Decimal(0))
