"""BurlaPostgresOperator through Airflow's real task runner, a real PostgreSQL and the local engine."""

from __future__ import annotations

import datetime
import re
import threading
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.task_runner import START, Airflow

TOTALS = {
    "total": "sum(amount)",
    "least": "min(amount)",
    "most": "max(amount)",
    "mean": "avg(amount)",
    "notes": "count(note)",
    "amounts": "count(amount)",
}


def operator(**options: Any) -> BurlaPostgresOperator:
    work = {} if {"process_rows", "process_range", "totals"} & options.keys() else {"totals": TOTALS}
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "ranges": 7}
    return BurlaPostgresOperator(**{**defaults, **work, **options})


def add_up(rows: Iterable[tuple[int, Decimal]]) -> dict[str, Any]:
    return {"total": sum((amount for _, amount in rows), Decimal(0))}


def count_in_range(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
    query = "SELECT count(*), coalesce(sum(amount), 0) FROM orders WHERE id BETWEEN %s AND %s"
    count, total = connection.execute(query, (key_range.start_id, key_range.end_id)).fetchone()  # type: ignore[misc]
    return {"row_count": count, "total": total}


LEDGER = {"process_range": count_in_range, "ledger": "public.burla_ledger"}


def test_totals_are_those_of_one_sql_query_to_the_last_digit(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator())
    assert result.state == "success", result.log
    expected = orders.ask(f"count(*), {', '.join(TOTALS.values())}")
    assert result.value == {
        "row_count": expected[0],
        "total": str(expected[1]),
        "least": str(expected[2]),
        "most": str(expected[3]),
        "mean": str(expected[4]),
        "notes": expected[5],
        "amounts": expected[6],
    }


def test_process_rows_gets_the_selected_columns_of_every_row(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(process_rows=add_up, columns=["id", "amount"]))
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}


def test_process_rows_can_get_dicts(airflow: Airflow, orders: Orders) -> None:
    def paid(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
        return {"paid": sum(1 for row in rows if row["status"] == "paid")}

    result = airflow.run(operator(process_rows=paid, row_format="dict"))
    assert result.value["paid"] == orders.ask("count(*)", "status = 'paid'")


def test_process_range_gets_a_connection_and_the_range_as_the_guide_has_it(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(process_range=count_in_range))
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}


@pytest.mark.parametrize("parameter", ["process_rows", "process_range"])
def test_a_function_that_cannot_be_pickled_is_refused_before_the_database_is_connected(
    airflow: Airflow, parameter: str
) -> None:
    lock = threading.Lock()
    task = operator(postgres_conn_id="nowhere", **{parameter: lambda *_: lock})
    assert str(airflow.run(task).error).startswith(f"{parameter}: cannot be sent to workers")


def test_combine_replaces_the_sums(airflow: Airflow, orders: Orders) -> None:
    def most(rows: Iterable[tuple[int, Decimal]]) -> dict[str, Any]:
        return {"most": max((amount for _, amount in rows), default=Decimal(0))}

    result = airflow.run(
        operator(
            process_rows=most,
            columns=["id", "amount"],
            combine=lambda parts: {"most": max(part["most"] for part in parts), "parts": len(parts)},
        )
    )
    assert result.value == {"row_count": 20000, "most": str(orders.ask("max(amount)")), "parts": 7}


def test_a_combined_result_that_is_not_json_fails_without_retries(airflow: Airflow, orders: Orders) -> None:
    task = operator(process_rows=lambda rows: {"n": len(list(rows))}, combine=lambda parts: {"parts": {len(parts)}})
    result = airflow.run(task, max_tries=3)
    assert result.state == "failed"
    assert "combine: the result['parts'] is of type builtins.set: turn it into plain data" in str(result.error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"totals": {"row_count": "sum(id)"}}, "totals: has the name 'row_count', which is reserved"),
        ({"totals": {"complete": "max(id)"}}, "totals: has the name 'complete'"),
        ({"process_rows": lambda rows: {"row_count": sum(1 for _ in rows) // 2}}, "row_count=.* Use another name"),
        ({"process_rows": lambda rows: {"snapshots": sum(1 for _ in rows)}}, "has the key 'snapshots'"),
        (
            {"process_rows": lambda rows: {"n": sum(1 for _ in rows)}, "combine": lambda parts: {"row_count": 5}},
            "combine returned the key 'row_count', which is reserved",
        ),
    ],
)
@pytest.mark.usefixtures("orders")
def test_reserved_keys_of_the_result_are_refused(airflow: Airflow, options: dict[str, Any], message: str) -> None:
    result = airflow.run(operator(**options), max_tries=3)
    assert result.state == "failed"
    assert re.search(message, f"{result.error} {result.log}")


@pytest.mark.usefixtures("orders")
def test_a_function_can_return_the_row_count(airflow: Airflow) -> None:
    result = airflow.run(operator(process_rows=lambda rows: {"row_count": len(list(rows))}))
    assert result.value == {"row_count": 20000}


def test_ids_of_a_range_with_null_keys_are_refused(airflow: Airflow, orders: Orders) -> None:
    def by_ids(connection: Any, key_range: Any) -> dict[str, Any]:
        query = "SELECT count(*) FROM orders WHERE place BETWEEN %s AND %s"
        [count] = connection.execute(query, [key_range.start_id, key_range.end_id]).fetchone()
        return {"row_count": count}

    orders.connection.execute("ALTER TABLE orders ADD place integer; UPDATE orders SET place = id WHERE id % 4 > 0")
    result = airflow.run(operator(key="place", split="single", process_range=by_ids, row_format="tuple"))
    assert "has rows whose place can be NULL. Use key_range.where" in f"{result.error} {result.log}"


def test_a_window_of_ids_is_inclusive_at_both_ends(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(start_id="{{ 30 }}", end_id=300))
    assert result.value["row_count"] == orders.ask("count(*)", "id BETWEEN 30 AND 300")


def test_a_whole_decimal_from_an_earlier_task_is_an_integer(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(start_id=Decimal(1000), end_id=Decimal("2000.0")))
    assert result.value["row_count"] == orders.ask("count(*)", "id BETWEEN 1000 AND 2000"), result.log


def test_where_takes_parameters_and_a_percent_sign(airflow: Airflow, orders: Orders) -> None:
    condition = "status = %(status)s AND note LIKE 'note%%7'"
    result = airflow.run(operator(where=condition, parameters={"status": "{{ 'pa' ~ 'id' }}"}))
    assert result.value["row_count"] == orders.ask("count(*)", "status = 'paid' AND note LIKE 'note%7'")


@pytest.mark.parametrize(
    "options", [{"where": "random() < 0.5"}, {"totals": {"x": "count(*) FILTER (WHERE now() > '2024-01-01')"}}]
)
def test_what_differs_from_range_to_range_fails_without_retries(
    airflow: Airflow, orders: Orders, options: dict[str, Any]
) -> None:
    result = airflow.run(operator(**options), max_tries=3)
    assert result.state == "failed"
    assert str(result.error).startswith(next(iter(options)))
    assert "whose value may differ from range to range" in str(result.error)


def test_an_empty_table_gives_the_totals_of_no_rows(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("TRUNCATE orders")
    result = airflow.run(operator(ranges=None))
    assert result.value == {
        "row_count": 0,
        "total": "0",
        "least": None,
        "most": None,
        "mean": None,
        "notes": 0,
        "amounts": 0,
    }


def test_an_empty_window_gives_the_totals_of_no_rows(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(process_rows=add_up, columns=["id", "amount"], start_id=-10, end_id=-5, ranges=None))
    assert result.value["row_count"] == 0


def test_the_trial_counts(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(trial_ranges=3))
    assert result.value["row_count"] == 20000
    assert "Trial: running 3 of 7 first" in result.log


def test_a_failed_trial_ends_the_task_before_the_fan_out(airflow: Airflow, orders: Orders) -> None:
    def fail(rows: Iterable[Any]) -> dict[str, Any]:
        raise LookupError("no such thing")

    result = airflow.run(operator(process_rows=fail, trial_ranges=2))
    assert result.state == "failed"
    assert "The trial failed" in str(result.error)
    assert "2 of 2 ranges failed" in str(result.error)


def test_plan_only_returns_the_plan_and_starts_nothing(airflow: Airflow, orders: Orders) -> None:
    def fail(rows: Iterable[Any]) -> dict[str, Any]:
        raise AssertionError("started")

    result = airflow.run(operator(process_rows=fail, plan_only=True))
    assert result.state == "success"
    assert result.value["table"] == "public.orders"
    assert result.value["strategy"]


def test_the_log_begins_with_the_plan_and_ends_with_the_totals_and_the_time_of_each_phase(
    airflow: Airflow, orders: Orders
) -> None:
    log = airflow.run(operator()).log
    landmarks = [
        "::group::Plan: 7 ranges of public.orders, about ",
        "strategy ",
        "::endgroup::\n",
        "connections: the minimum of",
        "Result\n{",
        "Took ",
    ]
    places = [log.index(landmark, log.index("::group::Plan")) for landmark in landmarks]
    assert places == sorted(places)
    assert re.findall(r"(\w[\w ]*) \d+\.\d s[,.]", log[places[-1] :].partition(":")[2]) == [
        "starting",
        "connecting",
        "snapshot",
        "planning",
        "starting workers",
        "working",
        "combining",
    ]


def test_multiple_outputs_pushes_every_total_by_its_name(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(multiple_outputs=True))
    assert result.xcoms["row_count"] == 20000
    assert result.xcoms["total"] == str(orders.ask("sum(amount)"))


def test_failed_ranges_are_named_with_their_bounds_and_errors(airflow: Airflow, orders: Orders) -> None:
    def fail_late(rows: Iterable[tuple[int, Decimal]]) -> dict[str, Any]:
        if any(id > 100_000 for id, _ in rows):
            raise ValueError("too late")
        return {}

    result = airflow.run(operator(process_rows=fail_late, columns=["id", "amount"], key="id"), max_tries=1)
    assert result.state == "up_for_retry"
    assert "of 7 ranges failed" in str(result.error)
    assert "ValueError: too late" in str(result.error)
    assert "<= id <" in str(result.error)


def test_tolerated_failures_say_that_the_result_is_not_complete(airflow: Airflow, orders: Orders) -> None:
    def fail_first(rows: Iterable[tuple[int, Decimal]]) -> dict[str, Any]:
        if any(id == 3 for id, _ in rows):
            raise ValueError("the first")
        return {}

    result = airflow.run(operator(process_rows=fail_first, columns=["id", "amount"], tolerated_failures=1))
    assert result.state == "success"
    assert result.value["complete"] is False
    assert result.value["failed_ranges"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "ordes"}, 'table: "ordes" not found in database '),
        ({"key": "amoun"}, "key: "),
        ({"columns": ["id", "nope"], "process_rows": add_up}, "columns: "),
        ({"columns": "{{ 'id' }}", "process_rows": add_up}, "columns: must be a list, got 'id'"),
        ({"totals": "{{ 'sum(amount)' }}"}, "totals: must be a dict, got 'sum(amount)'"),
        ({"where": "amount >"}, "where: "),
        ({"totals": {"x": "sum(nope)"}}, "totals: the server rejects 'sum(nope)': column"),
        ({"totals": {"x": "stddev(amount)"}}, "totals: "),
        ({"where": "status = %s", "parameters": []}, "parameters: "),
        ({"where": "status = %(status)s", "parameters": ["paid"]}, "parameters: do not match"),
        ({"where": "status = %s", "parameters": {"status": "paid"}}, "parameters: do not match"),
        ({"where": "status = %s", "parameters": "paid"}, "parameters: do not match"),
        ({"where": "status = %s", "parameters": ["pa\0id"]}, "parameters: do not match"),
        ({"rows_per_range": "{{ 0 }}", "ranges": None}, "rows_per_range"),
        ({"start_id": "{{ 5 }}", "end_id": "{{ 4 }}"}, "start_id"),
        ({"start_id": "{{ 'five' }}"}, "start_id"),
        ({"start_id": "{{ 2.9 }}"}, "start_id: must be an integer, got '2.9'"),
        ({"max_parallelism": "{{ 'two' }}"}, "max_parallelism: must be an integer >= 1, got 'two'"),
        ({"process_rows": lambda rows: {"connection": open}, "burla_conn_id": "burla_default", "ranges": 1}, "return"),
    ],
)
def test_bad_input_fails_the_task_without_retries_and_names_the_parameter(
    airflow: Airflow, orders: Orders, options: dict[str, Any], message: str
) -> None:
    result = airflow.run(operator(**options), max_tries=0)
    assert result.state == "failed"
    assert message in str(result.error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"totals": None}, "exactly one must be given, got none"),
        ({"process_rows": add_up, "totals": TOTALS}, "exactly one must be given, got totals and process_rows"),
        ({"process_rows": "add_up"}, "process_rows"),
        ({"columns": "id"}, "columns: must be a list, got 'id'"),
        ({"columns": ["id", 2]}, "columns: must contain only strings, got 2"),
        ({"columns": {"id": 2}}, "columns: must contain only strings, got 2"),
        ({"totals": "sum(amount)"}, "totals: must be a dict, got 'sum.amount.'"),
        ({"totals": {"n": 5}}, "totals: must contain only strings, got 5"),
        ({"totals": {5: "count(*)"}}, "totals: must contain only strings, got 5"),
        ({"rows_per_range": 0}, "rows_per_range"),
        ({"rows_per_range": 10, "ranges": 2}, "ranges: cannot be combined with rows_per_range. Give one of the two."),
        ({"start_id": 5, "end_id": 4}, "start_id"),
        ({"start_id": 5, "lower": 5}, "start_id: cannot be combined with lower. Give one of the two."),
        ({"end_id": 5, "upper": 5}, "end_id: cannot be combined with upper. Give one of the two."),
        ({"split": "pages", "key": "id"}, "key: is not supported with split='pages', got 'id'. Leave it out"),
        ({"split": "pages", "upper": 5}, "upper: is not supported with split='pages', which has no key, got 5. Use"),
        ({"start_id": 2.9}, "start_id: must be an integer, got 2.9. Use a whole number"),
        ({"start_id": Decimal("2.9")}, "start_id: must be an integer, got Decimal.'2.9'."),
        ({"end_id": Decimal("NaN")}, "end_id: must be an integer, got Decimal.'NaN'."),
        ({"end_id": True}, "end_id: must be an integer, got True"),
        ({"end_id": float("inf")}, "end_id: must be an integer, got inf"),
        ({"ranges": 2.0}, "ranges: must be an integer >= 1, got 2.0"),
        ({"ranges": "9" * 5000}, "ranges: must be an integer >= 1, got '9+'"),
        ({"rows_per_range": "1e6"}, "rows_per_range: must be an integer >= 1, got '1e6'"),
        ({"consistency": "perfect"}, "consistency"),
        ({"split": "wobbly"}, 'Use "auto", "width", "histogram", "probed", "keyset", "pages" or "single"'),
        ({"row_format": "polars"}, 'Use "tuple" or "dict"'),
        ({"on_range_failure": "skip"}, "on_range_failure"),
        ({"verify": "sum"}, "verify: 'sum' is unknown. Use \"count\" or None"),
        ({"range_timeout": 0}, "range_timeout: must be a number > 0, got 0. Use a number of seconds."),
        ({"statement_timeout": "5min"}, "statement_timeout: must be a number >= 0, got '5min'"),
        ({"range_retries": -1}, "range_retries"),
        ({"trial_ranges": "all"}, "trial_ranges"),
        ({"tolerated_failures": "many"}, "tolerated_failures"),
        ({"ledger": "public.burla_ledger"}, "ledger"),
        ({**LEDGER, "ledger_retention": 30}, "ledger_retention: must be a timedelta > 0, got 30. Use timedelta"),
        ({**LEDGER, "ledger_retention": datetime.timedelta(0)}, "ledger_retention: must be a timedelta > 0, got "),
        (
            {**LEDGER, "ledger_retention": datetime.timedelta(days=-1)},
            "ledger_retention: must be a timedelta > 0, got ",
        ),
        ({"ledger_retention": datetime.timedelta(days=1)}, "ledger_retention: there is no ledger"),
        ({"incremental": True, "key": "id", "tolerated_failures": "5%"}, "tolerated_failures"),
        ({"incremental": True, "key": "id", "lag": -100}, "lag: must not be negative, got -100"),
        ({"incremental": True, "key": "id", "lag": datetime.timedelta(hours=-1)}, "lag: must not be negative, got "),
        ({**LEDGER, "consistency": "snapshot"}, "consistency"),
    ],
)
def test_what_is_wrong_already_in_the_dag_file_is_refused_at_parse(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        operator(**options)


def test_a_mapped_task_that_cannot_be_used_fails_without_retries(airflow: Airflow, orders: Orders) -> None:
    partial = BurlaPostgresOperator.partial(task_id="t", table="orders", postgres_conn_id="orders_db", totals=TOTALS)
    with DAG("test_dag", schedule=None, start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)):
        mapped = partial.expand(split=["wobbly"])
    result = airflow.run(mapped.unmap({"split": "wobbly"}), max_tries=3)
    assert result.state == "failed"
    assert "split: 'wobbly' is unknown." in str(result.error)


def test_a_template_of_ranges_can_render_to_none(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(rows_per_range="{{ params.get('rows', '') }}", ranges=None))
    assert result.value["row_count"] == 20000, result.log


def test_columns_and_totals_may_come_from_templates_and_other_tasks(airflow: Airflow, orders: Orders) -> None:
    with DAG("test_dag", schedule=None, start_date=START, render_template_as_native_obj=True):
        task = operator(columns="{{ ['id', 'amount'] }}", process_rows=add_up)
    assert airflow.run(task).value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}
    assert airflow.run(operator(columns="{{ '' }}", totals={"n": "{{ 'count(*)' }}"})).value["n"] == 20000
    with DAG("test_dag", schedule=None, start_date=START):
        earlier = EmptyOperator(task_id="earlier").output
        later = operator(columns=earlier, totals=earlier["totals"], requirements=[earlier["package"]])
    assert later.upstream_task_ids == {"earlier"}


def test_columns_may_be_expressions_with_templates_in_them(airflow: Airflow, orders: Orders) -> None:
    columns = {"id": "id", "half": "amount / {{ 1 + 1 }} -- %"}
    result = airflow.run(operator(columns=columns, process_rows=add_up))
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount / 2)"))}
    refused = airflow.run(operator(columns={"total": "sum(amount)"}, process_rows=add_up), max_tries=0)
    assert "columns: the server rejects 'sum(amount)': aggregate functions" in str(refused.error)


def test_permanent_errors_are_not_retried(airflow: Airflow, orders: Orders) -> None:
    assert airflow.run(operator(table="ordes"), max_tries=3).state == "failed"


def test_a_missing_connection_raises_airflows_error(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(burla_conn_id="nowhere"))
    assert type(result.error).__name__ == "AirflowNotFoundException"


def test_a_total_beyond_what_json_numbers_hold_stays_exact(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("UPDATE orders SET id = id + 9007199254740993 WHERE id = 3")
    orders.connection.execute("ALTER TABLE orders ALTER amount TYPE numeric(40, 4)")
    orders.connection.execute("UPDATE orders SET amount = 12345678901234567890.1201 WHERE id = 9007199254740996")
    result = airflow.run(operator(totals={"total": "sum(amount)", "last": "max(id)"}))
    assert result.value["total"] == str(orders.ask("sum(amount)"))
    assert result.value["last"] == 9007199254740996


def test_an_integer_beyond_64_bits_stays_exact(airflow: Airflow, orders: Orders) -> None:
    totals = {"total": "sum(id * 20000000000000)", "least": "sum(-id * 20000000000000)"}
    result = airflow.run(operator(totals=totals))
    assert int(orders.ask(totals["total"])) > 2**64, "or it shows nothing"
    assert result.value == {"row_count": 20000} | {name: str(orders.ask(text)) for name, text in totals.items()}


def test_verify_compares_with_a_count_in_the_same_snapshot(airflow: Airflow, orders: Orders) -> None:
    assert "count(*) gives 20,000 rows too" in airflow.run(operator(verify="count")).log


def test_an_end_of_zero_is_not_ignored(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("INSERT INTO orders SELECT -n, 1 FROM generate_series(1, 9) AS n")
    assert airflow.run(operator(lower=-5, upper=0)).value["row_count"] == 5
    assert airflow.run(operator(lower=0)).value["row_count"] == 20000


def test_a_window_without_a_partition_has_no_rows(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("CREATE TABLE days (id bigint, amount numeric) PARTITION BY RANGE (id)")
    orders.connection.execute("CREATE TABLE day_1 PARTITION OF days FOR VALUES FROM (1) TO (100)")
    orders.connection.execute("INSERT INTO days SELECT n, 1 FROM generate_series(1, 50) AS n")
    result = airflow.run(
        operator(table="days", key="id", totals={"n": "count(*)"}, start_id=100, end_id=199, verify="count")
    )
    assert result.error is None, result.log
    assert result.value["row_count"] == 0


def test_verify_fails_a_function_that_does_not_take_all_of_its_rows(airflow: Airflow, orders: Orders) -> None:
    def first_only(rows: Iterable[Any]) -> dict[str, Any]:
        next(iter(rows))
        return {}

    result = airflow.run(operator(process_rows=first_only, verify="count"))
    assert result.state == "failed"
    assert "Either the function does not read all rows of its range" in str(result.error)
    assert result.xcoms["burla_report"]["status"]["state"] == "failed"


def test_rows_with_a_null_key_are_processed_and_verified(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("ALTER TABLE orders ADD place integer; UPDATE orders SET place = id / 7 WHERE id % 4 > 0")
    result = airflow.run(operator(key="place", verify="count"))
    assert result.value["row_count"] == 20000, result.log


def test_a_table_without_any_key_is_split_by_its_pages(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("CREATE TABLE loose AS SELECT * FROM orders; ANALYZE loose")
    result = airflow.run(operator(table="loose", verify="count"))
    assert result.value["row_count"] == 20000, result.log
    assert "pages" in result.log


def test_pages_are_refused_where_there_is_no_snapshot(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("CREATE TABLE loose AS SELECT * FROM orders; ANALYZE loose")
    result = airflow.run(operator(table="loose", consistency="none"))
    assert result.state == "failed"
    assert "key: public.loose has no suitable key" in str(result.error)


END_THE_TASKS_SESSION = """
    CREATE FUNCTION end_the_tasks_session() RETURNS text LANGUAGE sql STABLE AS $$
        SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity
        WHERE current_setting('application_name') LIKE 'test_dag.t.%#%'  -- it is a worker that asks
            AND application_name LIKE 'test_dag.t.%' AND pid <> pg_backend_pid()
    $$
"""


def test_the_tasks_session_may_end_while_it_is_idle_and_text_is_combined_all_the_same(
    airflow: Airflow, orders: Orders
) -> None:
    orders.connection.execute(END_THE_TASKS_SESSION)
    ended = {"ended": "max(CASE WHEN id = 3 THEN end_the_tasks_session() END)", "latest": "max(status)"}
    result = airflow.run(operator(totals=ended, consistency="none", max_parallelism=1))
    assert result.value == {"row_count": 20000, "ended": "1", "latest": "refunded"}, result.log


def test_the_tasks_session_may_end_while_it_is_idle_and_old_runs_leave_the_ledger(
    airflow: Airflow, orders: Orders
) -> None:
    def end_the_tasks_session(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
        connection.execute("SELECT end_the_tasks_session()")
        return {"row_count": 1}

    orders.connection.execute(END_THE_TASKS_SESSION)
    task = {"process_range": end_the_tasks_session, "ledger": "public.burla_ledger", "max_parallelism": 1}
    assert airflow.run(operator(**task), run_id="r0").state == "success"
    orders.connection.execute("UPDATE burla_ledger SET finished_at = now() - interval '40 days'")
    result = airflow.run(operator(**task, ledger_retention=datetime.timedelta(days=30)), run_id="r1")
    assert result.state == "success", result.log
    runs = orders.connection.execute("SELECT DISTINCT split_part(run_key, '/', 4) FROM burla_ledger").fetchall()
    assert runs == [("r1",)]


def test_a_task_that_has_written_everything_succeeds_if_old_runs_cannot_leave_the_ledger(
    airflow: Airflow, orders: Orders, database: str
) -> None:
    def count(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
        return {"row_count": 1}

    task = {"process_range": count, "ledger": "public.burla_ledger", "ranges": 4}
    assert airflow.run(operator(**task), run_id="r0").state == "success"
    orders.connection.execute("UPDATE burla_ledger SET finished_at = now() - interval '40 days'")
    orders.connection.execute(f"ALTER DATABASE {orders.connection.info.dbname} SET lock_timeout = '100ms'")
    task["ledger_retention"] = datetime.timedelta(days=30)
    with psycopg.connect(database) as reader:
        reader.execute("SELECT FROM burla_ledger FOR UPDATE")
        result = airflow.run(operator(**task), run_id="r1")
    assert result.state == "success", result.log
    assert "ledger_retention: old runs cannot be removed from the ledger public.burla_ledger now (cancel" in result.log
    assert airflow.run(operator(**task), run_id="r2").state == "success"
    runs = orders.connection.execute("SELECT DISTINCT split_part(run_key, '/', 4) FROM burla_ledger").fetchall()
    assert sorted(runs) == [("r1",), ("r2",)]


def test_a_server_that_accepts_no_more_connections_when_all_ranges_are_done_loses_no_results(
    airflow: Airflow, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    from burla_provider.database import connect

    connection, refused = orders.connection, []
    connection.execute("""
        CREATE ROLE busy_reader LOGIN PASSWORD 'busy reader';
        GRANT SELECT ON orders TO busy_reader; GRANT CREATE ON SCHEMA public TO busy_reader;
        CREATE FUNCTION fill_the_server() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS
            $$BEGIN EXECUTE 'ALTER ROLE busy_reader CONNECTION LIMIT 0'; RETURN 1; END$$;
    """)
    open_connection = connect.open_connection

    def open_or_make_room(*args: Any, **options: Any) -> Any:
        try:
            return open_connection(*args, **options)
        except psycopg.OperationalError as error:
            refused.append(str(error))
            connection.execute("ALTER ROLE busy_reader CONNECTION LIMIT -1")
            raise

    def fill_the_server(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
        connection.execute("SELECT fill_the_server()")
        return {"row_count": 1}

    monkeypatch.setattr(connect, "open_connection", open_or_make_room)
    airflow.connections["orders_db"].login, airflow.connections["orders_db"].password = "busy_reader", "busy reader"
    try:
        task = {"process_range": fill_the_server, "ranges": 1, "consistency": "none"}
        result = airflow.run(operator(**task, results_table="public.results"))
        assert result.state == "success", result.log
        assert "too many connections" in "".join(refused)
        assert connection.execute("SELECT row_count FROM results").fetchall() == [(1,)]
    finally:
        connection.execute("DROP OWNED BY busy_reader; DROP ROLE busy_reader")
