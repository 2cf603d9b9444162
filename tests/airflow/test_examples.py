"""The example DAGs, and a DAG of what authors do, run whole on a small table of the demo's orders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest

from burla_provider.demo.orders import create_orders
from tests.support.dag_runs import CAN_ASK, DagOutcome, needs_newer_airflow, run_dags
from tests.support.postgres import PostgresServer

DAGS = Path(__file__).parents[2] / "dags"
OWN_DAGS = Path(__file__).parent / "dags"
GALLERY = (Path(__file__).parents[2] / "docs" / "examples.md").read_text()
DAYS = ["2024-01-01", "2024-01-02"]
needs_partitions = pytest.mark.skipif(
    needs_newer_airflow(DAGS / "daily_partitions.py") is not None, reason="Airflow has partitions' dates since 3.3"
)


@dataclass(frozen=True)
class Runs:
    """How the DAGs' runs ended, and the database that they worked on."""

    outcomes: dict[str, DagOutcome]
    connection: psycopg.Connection[Any]

    def ask(self, query: str) -> Any:
        row = self.connection.execute(query).fetchone()
        assert row is not None
        return row[0] if len(row) == 1 else row


@pytest.fixture(scope="module")
def runs(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with postgres_server.database() as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
        create_orders(conninfo, 20_000, lambda _: None)
        info = connection.info
        orders_db = {
            "conn_id": "orders_db",
            "conn_type": "postgres",
            "host": info.host,
            "port": info.port,
            "login": info.user,
            "password": info.password,
            "schema": info.dbname,
        }
        burla = {"conn_id": "burla_default", "conn_type": "burla", "extra": '{"engine": "local"}'}
        home = tmp_path_factory.mktemp("airflow")
        outcomes = run_dags(
            home,
            [DAGS, OWN_DAGS],
            {"daily_totals": "2024-01-02T00:00:00Z"},
            [orders_db, burla],
            partitions={"daily_partitions": DAYS},
            rollups={"monthly_rollup": ["order_totals_by_day", [f"2024-01-{day:02}" for day in range(3, 32)]]},
            answers={"approved_totals": ["approve", "Approve"]},
        )
        yield Runs(outcomes, connection)


@pytest.mark.parametrize("path", sorted([*DAGS.glob("*.py"), *OWN_DAGS.glob("*.py")]), ids=lambda path: path.stem)
def test_a_dag_succeeds(runs: Runs, path: Path) -> None:
    if reason := needs_newer_airflow(path):
        pytest.skip(reason)
    outcomes = {name: outcome for name, outcome in runs.outcomes.items() if name.split()[0] == path.stem}
    assert outcomes
    assert {outcome.state for outcome in outcomes.values()} == {"success"}, outcomes


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_the_gallery_has_the_graph_of_a_dag(runs: Runs, path: Path) -> None:
    if reason := needs_newer_airflow(path):
        pytest.skip(reason)
    section = GALLERY.partition(f"\n## {path.stem}\n")[2].partition("\n## ")[0]
    lines = [line.split(" → ") for line in re.findall(r"^```text\n(.*?)\n```$", section, re.M | re.S)[0].splitlines()]
    [outcome] = [outcome for name, outcome in runs.outcomes.items() if name.split()[0] == path.stem][:1]
    assert sorted({edge for line in lines for edge in pairwise(line)}) == [tuple(edge) for edge in outcome.edges]
    assert {task for line in lines for task in line} == set(outcome.states)


@needs_partitions
def test_a_run_processes_its_partition_of_the_asset(runs: Runs) -> None:
    for day in DAYS:
        outcome = runs.outcomes[f"daily_partitions {day}"]
        value = outcome.values["sum_day"]
        begin = f"timestamptz '{day} 00:00Z'"
        window = f"created_at >= {begin} AND created_at < {begin} + interval '1 day'"
        count, total = runs.ask(f"SELECT count(*), sum(amount) FROM orders WHERE {window}")
        assert (value["row_count"], Decimal(value["total_amount"])) == (count, total)
        assert count > 0
        assert outcome.rendered["sum_day"]["lower"] == f"{day} 00:00:00+00:00"


@needs_partitions
def test_a_month_is_exactly_the_sum_of_its_days(runs: Runs) -> None:
    value = runs.outcomes["monthly_rollup"].values["add_up"]
    assert (value["month"], value["days"]) == ("2024-01", 31)
    count, total = runs.ask("SELECT count(*), sum(amount) FROM orders WHERE created_at < '2024-01-03 00:00Z'")
    assert (value["orders"], Decimal(value["total_amount"])) == (count, total)


def test_the_approved_days_are_processed(runs: Runs) -> None:
    outcome = runs.outcomes["approved_totals"]
    plan, value = outcome.values["plan"], outcome.values["sum_window"]
    if CAN_ASK:
        assert outcome.values["approve"]["chosen_options"] == ["Approve"]
        assert f"About {plan['expected_rows']} rows in {plan['ranges']} ranges" in outcome.rendered["approve"]["body"]
    day = "created_at >= '2024-01-01 00:00Z' AND created_at < '2024-01-02 00:00Z'"
    count, total = runs.ask(f"SELECT count(*), sum(amount) FROM orders WHERE {day}")
    assert (value["row_count"], Decimal(value["total_amount"])) == (count, total)


def test_a_day_has_the_totals_of_its_own_orders(runs: Runs) -> None:
    value = runs.outcomes["daily_totals"].values["sum_day"]
    day = "created_at >= '2024-01-01 00:00Z' AND created_at < '2024-01-02 00:00Z'"
    count, total = runs.ask(f"SELECT count(*), sum(amount) FROM orders WHERE {day}")
    assert (value["row_count"], Decimal(value["total_amount"])) == (count, total)
    assert 0 < count < 20_000


def test_the_asset_event_has_the_totals_of_the_day(runs: Runs) -> None:
    outcome = runs.outcomes["daily_totals"]
    assert [list(event) for event in outcome.events] == [["orders_by_day", outcome.values["sum_day"]]]


def test_every_paid_order_earned_its_points_once(runs: Runs) -> None:
    expected = runs.ask("SELECT sum(div(amount, 10)) FROM orders WHERE status = 'paid'")
    assert runs.ask("SELECT sum(points) FROM loyalty_points") == expected
    assert runs.outcomes["loyalty_points"].values["give_points"]["points"] == expected
    assert runs.ask("SELECT count(*) FROM burla_ledger") > 0


def test_every_word_of_a_note_is_written_once(runs: Runs) -> None:
    words = "SELECT id, n - 1, lower(word) FROM orders, string_to_table(note, ' ') WITH ORDINALITY AS w (word, n)"
    assert runs.ask(f"SELECT count(*) FROM ({words} EXCEPT ALL TABLE note_words) AS missing") == 0
    assert runs.ask(f"SELECT count(*) FROM (TABLE note_words EXCEPT ALL {words}) AS surplus") == 0
    value = runs.outcomes["note_words"].values["write_words"]
    assert (value["row_count"], value["rows_inserted"]) == (20_000, runs.ask("SELECT count(*) FROM note_words"))


def test_every_note_has_the_label_of_its_words(runs: Runs) -> None:
    expected = {
        "gift": "gift",
        "urgent: by Friday": "urgent",
        "Größe L, bitte": "size",
        "ring twice": "delivery",
        "call before delivery": "delivery",
    }
    labels = "SELECT note, label FROM orders JOIN note_labels ON order_id = id GROUP BY note, label"
    assert dict(runs.connection.execute(labels).fetchall()) == expected
    outcome = runs.outcomes["note_labels"]
    notes = runs.ask("SELECT count(*) FROM orders WHERE note IS NOT NULL")
    assert outcome.values["label_notes"] == {"row_count": notes, "rows_written": notes} | dict.fromkeys(
        ("rows_unchanged", "rows_filtered"), 0
    )
    assert sum(outcome.values["check"].values()) == notes
    assert runs.ask("SELECT DISTINCT model_id FROM note_labels") == outcome.values["train"]
    assert "password" in outcome.rendered["label_notes"]["op_kwargs"]["login"]


def test_every_customer_has_a_segment(runs: Runs) -> None:
    value = runs.outcomes["customer_segments"].values["fill_segments"]
    assert value["rows_updated"] == runs.ask("SELECT count(*) FROM customers") > 0
    assert runs.ask("SELECT count(*) FROM customers WHERE segment IS NULL") == 0


def test_every_customer_has_a_forecast(runs: Runs) -> None:
    forecasts = runs.outcomes["customer_forecasts"].values["forecast"]
    best = runs.connection.execute("""
        SELECT customer_id FROM orders WHERE status IN ('paid', 'shipped')
        GROUP BY customer_id ORDER BY sum(amount) DESC, customer_id LIMIT 100
    """)
    assert [one["customer_id"] for one in forecasts] == [customer_id for (customer_id,) in best]


def test_complete_totals_take_the_branch_that_loads_them(runs: Runs) -> None:
    outcome = runs.outcomes["order_report"]
    assert outcome.states["load"] == "success"
    assert outcome.states["report_missing"] == "skipped"
    value = outcome.values["sum_orders"]
    loaded = runs.ask("SELECT orders, amount FROM order_reports")
    assert loaded == (value["row_count"], Decimal(value["total_amount"]))
    assert loaded == runs.ask("SELECT count(*), sum(amount) FROM orders WHERE status <> 'refunded'")


def test_mapped_tasks_are_labelled_by_their_tables(runs: Runs) -> None:
    outcome = runs.outcomes["every_table"]
    counts = dict(zip(outcome.labels["count_rows"], outcome.values["count_rows"], strict=True))
    assert counts["orders"]["rows"] == 20_000


def test_an_operator_works_in_a_mapped_task_group(runs: Runs) -> None:
    values = runs.outcomes["authoring"].values["per_status.sum"]
    expected = [runs.ask(f"SELECT sum(amount) FROM orders WHERE status = '{status}'") for status in ("paid", "open")]
    assert [Decimal(value["total"]) for value in values] == expected


def test_an_earlier_task_may_return_the_name_of_the_table(runs: Runs) -> None:
    outcome = runs.outcomes["authoring"]
    assert outcome.values["of_an_earlier_task"]["last"] == runs.ask("SELECT max(id) FROM orders")
    assert outcome.rendered["of_an_earlier_task"]["sql"].endswith("FROM orders")


def test_a_mapped_decorated_function_is_called_on_every_item_of_every_instance(runs: Runs) -> None:
    assert runs.outcomes["authoring"].values["add"] == [[11, 12], [21, 22]]


def test_a_decorated_function_of_rows_gets_results_of_earlier_tasks(runs: Runs) -> None:
    values = runs.outcomes["authoring"].values
    expected = [
        runs.ask(f"SELECT count(*) FROM orders WHERE status = 'paid' AND amount >= {minimum}")
        for minimum in (3, 10, 500)
    ]
    assert [values["count_large"]["number"], *(value["number"] for value in values["count_each"])] == expected


def test_a_function_gets_the_results_of_all_instances_of_a_mapped_task(runs: Runs) -> None:
    values = runs.outcomes["authoring"].values
    assert values["pair"] == [[10, [10, 20]], [20, [10, 20]]]
    assert values["with_tens"] == [[1, [11, 21]]]
    assert values["sum_of_tens"]["tens"] == 30


def test_every_instance_of_a_mapped_operator_has_its_own_list(runs: Runs) -> None:
    values = runs.outcomes["authoring"].values["doubled_lists"]
    assert [[number for result in results for number in result.values()] for results in values] == [[8, 10], [12]]


def test_code_with_braces_is_not_rendered(runs: Runs) -> None:
    outcome = runs.outcomes["authoring"]
    assert outcome.values["doubled"] == [{"{{ not a template }}": number} for number in (6, 2, 4)]
    assert outcome.rendered["doubled"]["code"].startswith("def double(number):")
    assert "{{ not a template }}" in outcome.rendered["doubled"]["code"]
