"""Lineage in Airflow's assets and in OpenLineage, with its real listener and its real file transport."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from airflow.sdk import Asset, AssetAlias

from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.task.lineage import TableLineage
from tests.airflow.conftest import Orders
from tests.support.lineage_run import emitted
from tests.support.postgres import PostgresServer
from tests.support.task_runner import Airflow

needs_openlineage = pytest.mark.skipif(
    importlib.util.find_spec("airflow.providers.openlineage") is None, reason="OpenLineage is not installed"
)


def operator(**options: Any) -> BurlaPostgresOperator:
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "key": "id", "ranges": 3}
    return BurlaPostgresOperator(**{**defaults, "totals": {"total": "sum(amount)"}, **options})


class Server:
    """What a connection knows of its server."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.port = 5433
        self.dbname = "shop"


def asset_of(host: str, table: str = "orders") -> str:
    [asset] = TableLineage(Server(host), "public", table, None).with_table_asset([])  # type: ignore[arg-type]
    return str(asset.uri)


def test_the_table_is_an_asset_by_its_address() -> None:
    assert asset_of("db.example.com") == "postgres://db.example.com:5433/shop/public/orders"


def test_a_server_behind_a_socket_is_localhost() -> None:
    assert asset_of("/run/postgresql") == "postgres://localhost:5433/shop/public/orders"


def test_an_ipv6_address_is_in_brackets() -> None:
    assert asset_of("::1") == "postgres://[::1]:5433/shop/public/orders"


def test_every_table_name_makes_a_valid_uri() -> None:
    assert asset_of("db", "Größe/Preis 1") == "postgres://db:5433/shop/public/Gr%C3%B6%C3%9Fe%2FPreis%201"


def test_the_table_is_added_to_the_users_inlets(airflow: Airflow, orders: Orders) -> None:
    rates = Asset("rates")
    finished: list[Any] = []
    airflow.run(operator(inlets=[rates], on_success_callback=lambda context: finished.append(context["task"].inlets)))
    info = orders.connection.info
    [[first, second]] = finished
    assert first == rates
    assert second.uri == f"postgres://{info.host}:{info.port}/{info.dbname}/public/orders"


def test_a_table_that_is_already_an_inlet_is_not_added() -> None:
    given = Asset("orders", uri="postgres://db:5433/shop/public/orders")
    assert TableLineage(Server("db"), "public", "orders", None).with_table_asset([given]) == [given]  # type: ignore[arg-type]


def test_the_operator_in_the_dag_keeps_the_inlets_that_it_was_given(airflow: Airflow, orders: Orders) -> None:
    task = operator()
    airflow.run(task)
    assert task.inlets == []


def test_the_events_of_outlets_carry_the_totals(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(outlets=[Asset("daily"), AssetAlias("other")]))
    [event] = [event for event in airflow.outlet_events if event["dest_asset_key"]["name"] == "daily"]
    assert event["extra"] == result.value


def test_what_the_user_adds_to_an_event_stays(airflow: Airflow, orders: Orders) -> None:
    daily = Asset("daily")

    def add(context: Any) -> None:
        context["outlet_events"][daily].extra["by"] = "me"

    result = airflow.run(operator(outlets=[daily], on_execute_callback=add))
    [event] = airflow.outlet_events
    assert event["extra"] == {"by": "me", **result.value}


@dataclass(frozen=True)
class Emitted:
    """What OpenLineage emitted of three tasks that worked a table of 1,000 rows."""

    events: dict[str, list[dict[str, Any]]]
    namespace: str
    database: str
    password: str


@pytest.fixture(scope="module")
def openlineage(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emitted]:
    with postgres_server.database() as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("""
            CREATE TABLE orders AS
            SELECT id, id::numeric AS amount, 'paid' AS status FROM generate_series(1, 1000) AS id;
            ALTER TABLE orders ADD PRIMARY KEY (id);
            CREATE TABLE copies (LIKE orders, PRIMARY KEY (id));
            UPDATE orders SET status = 'open' WHERE id % 4 = 0;
            ANALYZE orders
        """)
        info = connection.info
        fields = {
            "host": info.host,
            "port": info.port,
            "login": info.user,
            "password": info.password,
            "schema": info.dbname,
        }
        events = emitted(tmp_path_factory.mktemp("lineage"), fields)
        yield Emitted(events, f"postgres://{info.host}:{info.port}", info.dbname, info.password)


def datasets(found: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(one["namespace"], one["name"]) for one in found}


def named(dataset: tuple[str, str]) -> list[tuple[str, str]]:
    """The user's own asset, if the installed Postgres provider can name it: its oldest releases cannot."""
    from airflow.providers.postgres.get_provider_info import get_provider_info

    return [dataset] if any("to_openlineage_converter" in one for one in get_provider_info()["asset-uris"]) else []


@needs_openlineage
def test_openlineage_gets_the_table_and_the_number_of_rows(openlineage: Emitted) -> None:
    start, complete = openlineage.events["totals"]
    assert [start["eventType"], complete["eventType"]] == ["START", "COMPLETE"]
    [read] = [one for one in complete["inputs"] if one["name"] == f"{openlineage.database}.public.orders"]
    assert read["namespace"] == openlineage.namespace
    assert read["inputFacets"]["inputStatistics"]["rowCount"] == 750


@needs_openlineage
def test_openlineage_gets_the_sql(openlineage: Emitted) -> None:
    sql = openlineage.events["totals"][-1]["job"]["facets"]["sql"]
    assert sql["dialect"] == "postgres"
    assert sql["query"] == (
        "SELECT count(*) AS row_count,\n       sum(amount) AS total\nFROM orders\nWHERE (status = 'paid')"
    )


@needs_openlineage
def test_openlineage_gets_the_users_datasets_and_the_results_table(openlineage: Emitted) -> None:
    complete = openlineage.events["totals"][-1]
    here, elsewhere = openlineage.namespace, "postgres://elsewhere:5432"
    read, written = ((here, f"{openlineage.database}.public.{table}") for table in ("orders", "range_results"))
    assert datasets(complete["inputs"]) == {read, *named((elsewhere, "db.public.rates"))}
    assert datasets(complete["outputs"]) == {written, *named((elsewhere, "db.public.reports"))}


@needs_openlineage
def test_openlineage_gets_the_target_of_a_transform(openlineage: Emitted) -> None:
    complete = openlineage.events["transform"][-1]
    assert complete["eventType"] == "COMPLETE"
    assert datasets(complete["outputs"]) == {(openlineage.namespace, f"{openlineage.database}.public.copies")}
    assert datasets(openlineage.events["plan"][-1]["outputs"]) == set()  # a plan writes nothing


@needs_openlineage
def test_openlineage_gets_the_inlets_and_outlets_of_a_map(openlineage: Emitted) -> None:
    complete = openlineage.events["mapped"][-1]
    assert complete["eventType"] == "COMPLETE"
    assert datasets(complete["inputs"]) == set(named(("postgres://elsewhere:5432", "db.public.rates")))
    assert datasets(complete["outputs"]) == set(named(("postgres://elsewhere:5432", "db.public.reports")))


@needs_openlineage
def test_openlineage_gets_the_failed_ranges_and_the_number_of_rows(openlineage: Emitted) -> None:
    _, fail = openlineage.events["failing"]
    assert fail["eventType"] == "FAIL"
    error = fail["run"]["facets"]["errorMessage"]["message"]
    assert " of 7 ranges failed" in error
    assert "ValueError: too late" in error
    assert "<= id <" in error
    [read] = fail["inputs"]
    assert 0 < read["inputFacets"]["inputStatistics"]["rowCount"] < 1000


@needs_openlineage
def test_a_task_that_fails_before_it_reads_the_catalog_has_no_lineage(openlineage: Emitted) -> None:
    _, fail = openlineage.events["nowhere"]
    assert fail["eventType"] == "FAIL"
    assert fail["inputs"] == []


@needs_openlineage
def test_no_event_has_the_password(openlineage: Emitted) -> None:
    assert openlineage.password
    assert openlineage.password not in str(openlineage.events)
