"""Errors that can be found at the start are raised there, and permanent errors are not retried."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders, needs_state_stores
from tests.support.task_runner import Airflow


def operator(**options: Any) -> BurlaPostgresOperator:
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "ranges": 4, "key": "id"}
    return BurlaPostgresOperator(**{**defaults, **options})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_database_on_this_machine_is_refused_for_a_cluster(airflow: Airflow, orders: Orders, host: str) -> None:
    airflow.connections["orders_db"].host = host
    # Without a login, which would be checked first, and there is no such cluster.
    airflow.add_connection("cluster", "burla", host="https://burla.example.com")
    totals = {"n": "count(*)"}
    result = airflow.run(operator(totals=totals, burla_conn_id="cluster"), max_tries=3)
    assert result.state == "failed"
    assert f"postgres_conn_id: the connection 'orders_db' is to {host}, which to a worker" in str(result.error)
    assert "Plan" not in result.log
    assert airflow.run(operator(totals=totals), run_id="b").state == "success"
    assert airflow.run(operator(totals=totals, burla_conn_id="cluster", plan_only=True), run_id="c").state == "success"


@pytest.mark.parametrize("python", [None, sys.executable], ids=["this interpreter", "another"])
@pytest.mark.parametrize(
    ("requirement", "problem"),
    [
        ("no-such-package", "the local engine's interpreter has no no-such-package."),
        ("tenacity<2", f"the local engine's interpreter has tenacity {version('tenacity')}"),
    ],
)
def test_requirements_that_the_local_engine_lacks_are_refused_before_it_starts(
    airflow: Airflow, orders: Orders, python: str | None, requirement: str, problem: str
) -> None:
    task = operator(process_rows=lambda rows: {}, requirements=["psycopg", requirement], burla_python=python)
    result = airflow.run(task, max_tries=3)
    assert result.state == "failed"
    assert f"requirements: {problem}" in str(result.error)
    assert "Job local" not in result.log


@pytest.mark.parametrize("python", [None, sys.executable])
def test_requirements_that_the_local_engine_has_are_no_problem(airflow: Airflow, python: str | None) -> None:
    wanted = ["Tenacity>=8", "psycopg[binary]==3.*", 'no-such-package; python_version < "3"']
    task = BurlaMapOperator(task_id="t", python_callable=abs, inputs=[-1], requirements=wanted, burla_python=python)
    assert airflow.run(task).value == [1]


@pytest.mark.parametrize(
    ("parameter", "name"), [("/no/such/python", "burla_python"), (None, "connection 'burla_default', python")]
)
def test_an_interpreter_that_does_not_exist_is_named_as_the_user_gave_it(
    airflow: Airflow, parameter: str | None, name: str
) -> None:
    airflow.add_connection("burla_default", "burla", extra={"engine": "local", "python": "/no/such/python"})
    task = BurlaMapOperator(task_id="t", python_callable=abs, inputs=[-1], burla_python=parameter)
    result = airflow.run(task, max_tries=3)
    assert result.state == "failed"
    assert str(result.error).startswith(f"{name}: /no/such/python cannot be run")


@pytest.mark.parametrize("wrong", [{"password": "wr0ng"}, {"schema": "no_such_database"}, {"login": "nobody"}])
def test_a_login_that_the_server_refuses_names_the_connection_and_is_not_retried(
    airflow: Airflow, orders: Orders, wrong: dict[str, str]
) -> None:
    for name, value in wrong.items():
        setattr(airflow.connections["orders_db"], name, value)
    result = airflow.run(operator(totals={"n": "count(*)"}), max_tries=5)
    assert result.state == "failed"
    assert str(result.error).startswith("postgres_conn_id: the login with the connection 'orders_db' was rejected: ")


def test_a_login_that_is_rejected_after_the_hook_connected_with_psycopg2_names_the_connection_too(
    airflow: Airflow, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook's ``get_conn`` is a fake: the real one connects with psycopg2 in some environments only."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    name = "with_old_password"
    orders.connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'old'")

    def get_conn(hook: PostgresHook) -> Any:
        given = hook.get_connection(hook.get_conn_id())
        connection = psycopg2.connect(host=given.host, port=given.port, dbname=given.schema, user=name, password="old")
        orders.connection.execute(f"ALTER ROLE {name} PASSWORD 'new'")
        return connection

    monkeypatch.setattr(PostgresHook, "get_conn", get_conn)
    try:
        result = airflow.run(operator(totals={"n": "count(*)"}), max_tries=5)
    finally:
        orders.connection.execute(f"DROP ROLE {name}")
    assert result.state == "failed"
    assert str(result.error).startswith("postgres_conn_id: the login with the connection 'orders_db' was rejected: ")


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ({"ssl_mode": "require"}, 'invalid connection option "ssl_mode"'),
        ({"connect_timeout": "10s"}, "bad value for connect_timeout: '10s'"),
        ({"sslmode": "on"}, 'invalid sslmode value: "on"'),
        ({"options": "-c work_memory=1MB"}, 'FATAL:  unrecognized configuration parameter "work_memory"'),
    ],
)
def test_a_value_of_the_connection_that_cannot_be_used_is_not_tried_again(
    airflow: Airflow, orders: Orders, extra: dict[str, str], problem: str
) -> None:
    airflow.connections["orders_db"].extra = json.dumps(extra)
    result = airflow.run(operator(totals={"n": "count(*)"}), max_tries=5)
    assert result.state == "failed"
    assert str(result.error).startswith("postgres_conn_id: the connection 'orders_db' has a value that cannot be used")
    # psycopg checks the time itself. psycopg2, which Airflow 3.1 uses, leaves it to libpq.
    error = str(result.error).replace(
        'invalid integer value "10s" for connection option "connect_timeout"', "bad value for connect_timeout: '10s'"
    )
    assert error.endswith(f"{problem}. Correct it in its port or extra.")


def test_the_advice_for_a_server_without_tls_is_about_tls(airflow: Airflow, orders: Orders) -> None:
    airflow.connections["orders_db"].extra = '{"sslmode": "require"}'
    result = airflow.run(operator(totals={"n": "count(*)"}), max_tries=5)
    assert result.state == "failed"
    assert str(result.error).endswith(
        "SSL was required. Check sslmode and the other parameters in the extra of the connection 'orders_db'."
    )


def test_a_server_that_is_away_is_tried_again(airflow: Airflow, orders: Orders) -> None:
    airflow.connections["orders_db"].port = 9
    assert airflow.run(operator(totals={"n": "count(*)"}), max_tries=5).state == "up_for_retry"


def types_wrong(connection: Any, key_range: Any) -> dict[str, Any]:
    return {"n": 1 + "1"}  # type: ignore[operator]


def column_missing(connection: Any, key_range: Any) -> dict[str, Any]:
    return {"n": connection.execute("SELECT nope FROM orders").rowcount}


def permission_denied(connection: Any, key_range: Any) -> dict[str, Any]:
    return {"n": connection.execute("SELECT * FROM pg_authid").rowcount}


def rule_broken(connection: Any, key_range: Any) -> Any:
    return [key_range.index]


def something_else(connection: Any, key_range: Any) -> dict[str, Any]:
    raise RuntimeError("the service is away")


def first_one_only(connection: Any, key_range: Any) -> dict[str, Any]:
    return {"n": 1 + "1" if key_range.index else 1}  # type: ignore[operator]


@pytest.mark.parametrize("options", [{}, {"trial_ranges": 2}, {"on_range_failure": "stop"}], ids=repr)
@pytest.mark.parametrize(
    ("function", "state"),
    [
        (types_wrong, "failed"),
        (column_missing, "failed"),
        (permission_denied, "failed"),
        (rule_broken, "failed"),
        (something_else, "up_for_retry"),
    ],
)
def test_when_all_ranges_fail_in_a_way_that_no_retry_can_mend_there_is_no_retry(
    airflow: Airflow, orders: Orders, function: Any, state: str, options: Any
) -> None:
    name = "without_rights"
    orders.connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'; GRANT SELECT ON orders TO {name}")
    try:
        airflow.connections["orders_db"].login = airflow.connections["orders_db"].password = name
        result = airflow.run(operator(process_range=function, **options), max_tries=3)
        assert result.state == state, result.log
        assert "ranges failed (tolerated: 0)" in str(result.error)
        assert ("A retry would fail again" in str(result.error)) == (state == "failed")
    finally:
        orders.connection.execute(f"REVOKE ALL ON orders FROM {name}; DROP ROLE {name}")


def test_where_some_ranges_succeed_there_is_a_retry(airflow: Airflow, orders: Orders) -> None:
    assert airflow.run(operator(process_range=first_one_only), max_tries=3).state == "up_for_retry"


@needs_state_stores
def test_where_some_ranges_succeeded_in_an_earlier_try_there_is_a_retry(airflow: Airflow, tmp_path: Path) -> None:
    task = BurlaMapOperator(task_id="t", python_callable=lambda one: 1 + one, inputs=[1, "1"])
    for number in (1, 2):
        assert airflow.run(task, try_number=number, max_tries=3).state == "up_for_retry"


@pytest.mark.parametrize(("max_parallelism", "share"), [(None, 0.2), (2, 0.05), ("2", 0.05)])
def test_a_fifth_of_the_connections_stays_free_unless_max_parallelism_is_given(
    airflow: Airflow, orders: Orders, max_parallelism: Any, share: float
) -> None:
    row = orders.connection.execute("SHOW max_connections").fetchone()
    assert row is not None
    result = airflow.run(operator(totals={"n": "count(*)"}, max_parallelism=max_parallelism))
    assert f" - {round(int(row[0]) * share)} for others)" in result.log
