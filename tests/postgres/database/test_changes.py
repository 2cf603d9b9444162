"""Telling whether a table is what it was."""

import psycopg

from burla_provider.database.changes import table_state


def state(connection: psycopg.Connection) -> dict[str, str] | None:
    connection.execute("SELECT pg_stat_force_next_flush()")
    return table_state(connection, "public", "orders")


def test_writes_new_columns_and_new_files_are_changes(connection) -> None:
    connection.execute("CREATE TABLE orders AS SELECT n AS id FROM generate_series(1, 100) AS n")
    states = [state(connection)]
    assert state(connection) == states[0]
    for change in ("UPDATE orders SET id = 0 WHERE id = 1", "ALTER TABLE orders ADD note text", "VACUUM FULL orders"):
        connection.execute(change)
        states.append(state(connection))
    assert len({str(one) for one in states}) == 4


def test_where_nobody_counts_nothing_is_known(connection) -> None:
    connection.execute("CREATE TABLE orders (id bigint)")
    connection.execute("SET track_counts = off")
    assert state(connection) is None
