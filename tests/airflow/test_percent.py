"""Percent signs in names and keys, which psycopg reads only in a query that has parameters."""

from __future__ import annotations

from typing import Any

import psycopg

from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import add_database
from tests.support.task_runner import Airflow

SCHEMA = """
    CREATE SCHEMA "50% \\ s";
    CREATE TABLE "50% \\ s"."100%% t" ("k%s" text PRIMARY KEY, "n%(n)s" int NOT NULL);
    CREATE TABLE archive (LIKE "50% \\ s"."100%% t");
    INSERT INTO "50% \\ s"."100%% t"
    SELECT (ARRAY['100%% cotton ', '50% off ', 'a\\%b ', '%s ', '%%'])[n % 5 + 1] || to_char(n, '00000'), n
    FROM generate_series(1, 1000) AS n;
    CREATE TABLE "50% \\ s"."parted%" ("k%s" text) PARTITION BY LIST (left("k%s", 3));
    CREATE TABLE "50% \\ s"."leaf%s" PARTITION OF "50% \\ s"."parted%" FOR VALUES IN ('50%', '%s ');
    CREATE TABLE "50% \\ s"."rest%%" PARTITION OF "50% \\ s"."parted%" DEFAULT;
    INSERT INTO "50% \\ s"."parted%" SELECT "k%s" FROM "50% \\ s"."100%% t";
"""


def archive(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
    from psycopg import sql

    table = sql.Identifier("50% \\ s", "100%% t")
    insert = sql.SQL("INSERT INTO archive SELECT * FROM {} WHERE {} AND {} >= %s")
    # The name is escaped here, because this query has parameters.
    number = sql.SQL('"n%%(n)s"')
    table_escaped = sql.SQL('"50%% \\ s"."100%%%% t"')
    copied = connection.execute(insert.format(table_escaped, key_range.where, number), [0]).rowcount
    deleted = connection.execute(sql.SQL("DELETE FROM {} WHERE {}").format(table, key_range.where)).rowcount
    return {"copied": copied, "deleted": deleted}


def test_a_range_is_the_same_with_and_without_parameters(airflow: Airflow, connection) -> None:
    connection.execute(SCHEMA)
    add_database(airflow, "percent_db", connection.info)
    task = BurlaPostgresOperator(
        task_id="percent",
        table='"50% \\ s"."100%% t"',
        postgres_conn_id="percent_db",
        process_range=archive,
        ranges=7,
        ledger='"50% \\ s"."ledger %s %%"',
        results_table='"50% \\ s"."results %(run)s"',
    )
    result = airflow.run(task)
    assert result.state == "success", result.log
    assert result.value == {"copied": 1000, "deleted": 1000}
    left = """SELECT (SELECT count(*) FROM archive), (SELECT count(*) FROM "50% \\ s"."100%% t"),
        (SELECT count(*) FROM "50% \\ s"."ledger %s %%" WHERE range_index >= 0),
        (SELECT count(*) FROM "50% \\ s"."results %(run)s")"""
    assert connection.execute(left).fetchone() == (1000, 0, 7, 7)


def test_partitions_have_percent_signs_too(airflow: Airflow, connection) -> None:
    connection.execute(SCHEMA)
    add_database(airflow, "percent_db", connection.info)
    task = BurlaPostgresOperator(
        task_id="percent",
        table='"50% \\ s"."parted%"',
        postgres_conn_id="percent_db",
        key="k%s",
        totals={"n": "count(*)", "100%": 'max("k%s")'},
        where="\"k%s\" LIKE '50%%' OR \"k%s\" LIKE '\\%s%%'",
        ranges=5,
        verify="count",
        results_table="results",
    )
    result = airflow.run(task)
    assert result.state == "success", result.log
    assert (result.value["n"], result.value["100%"]) == (400, "50% off  00996")
