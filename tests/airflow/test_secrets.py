"""Passwords and tokens are not visible: every process of a running task is searched."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow.providers.common.compat.sdk import mask_secret, redact
from psycopg import sql

from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.task_runner import HAS_STATE_STORES, Airflow, TaskResult

PASSWORD = "s3cret'pass%word&with+signs"
TOKEN = "t0ken-that-nobody-may-see"


class Search(threading.Thread):
    """Reads command line and environment of every process below this one, again and again."""

    def __init__(self, *secrets: str) -> None:
        super().__init__(daemon=True)
        self.secrets = secrets or (PASSWORD, TOKEN)
        self.found: list[str] = []
        self.seen: set[int] = set()
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.02):
            for process in psutil.Process().children(recursive=True):
                self.look(process.pid)

    def look(self, pid: int) -> None:
        for name in ("cmdline", "environ"):
            try:
                content = Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue
            self.seen.add(pid)
            self.found += [f"{name} of {pid}" for secret in self.secrets if secret.encode() in content]


@pytest.fixture
def secret_connections(airflow: Airflow, orders: Orders) -> Airflow:
    connection = orders.connection
    name = f"reader_{os.getpid()}"
    connection.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}; GRANT SELECT ON orders TO {}").format(
            sql.Identifier(name), sql.Literal(PASSWORD), sql.Identifier(name)
        )
    )
    known = airflow.connections["orders_db"]
    airflow.add_connection(
        "orders_db",
        "postgres",
        host=known.host,
        port=known.port,
        login=name,
        password=PASSWORD,
        schema=known.schema,
    )
    airflow.add_connection("burla_default", "burla", login="me@example.com", password=TOKEN, extra={"engine": "local"})
    yield airflow
    connection.execute(
        sql.SQL("REVOKE ALL ON orders FROM {}; DROP ROLE {}").format(sql.Identifier(name), sql.Identifier(name))
    )


def run(airflow: Airflow, function: Any, **options: Any) -> TaskResult:
    task = BurlaPostgresOperator(
        task_id="t",
        table="orders",
        postgres_conn_id="orders_db",
        ranges=6,
        process_rows=function,
        where="status = %(status)s",
        parameters={"status": "paid"},
        **options,
    )
    return airflow.run(task, max_tries=1)


def everything(airflow: Airflow, result: TaskResult) -> str:
    """All that Airflow would store or show."""
    # MaskSecret is how Airflow learns what to hide; it is neither stored nor shown.
    shown = [message for message in airflow.messages if type(message).__name__ != "MaskSecret"]
    messages = "\n".join(repr(message) for message in shown)
    return "\n".join([result.log, json.dumps(result.xcoms), json.dumps(result.rendered), messages, repr(result.error)])


def test_a_successful_run_shows_no_secret(secret_connections: Airflow, capfd: pytest.CaptureFixture[str]) -> None:
    search = Search()
    search.start()
    result = run(secret_connections, lambda rows: {"n": sum(1 for _ in rows)})
    search.done.set()
    search.join()
    assert result.state == "success", result.log
    assert len(search.seen) >= 2, "the client and its workers were not found"
    assert search.found == []
    output = "".join(capfd.readouterr())
    assert PASSWORD not in everything(secret_connections, result) + output
    assert TOKEN not in everything(secret_connections, result) + output


def test_an_error_that_quotes_the_password_is_shown_without_it(
    secret_connections: Airflow, capfd: pytest.CaptureFixture[str]
) -> None:
    password = PASSWORD

    def leak(rows: Iterable[Any]) -> dict[str, Any]:
        raise RuntimeError(f"cannot connect with password={password}")

    result = run(secret_connections, leak)
    assert result.state == "up_for_retry"
    assert "cannot connect with password=***" in str(result.error)
    assert PASSWORD not in everything(secret_connections, result) + "".join(capfd.readouterr())


@pytest.mark.parametrize("password", ['it\'s "50%"\\ né\tÿ 😀', "two\nlines in\\it"])
def test_no_escaped_form_of_the_password_is_shown(airflow: Airflow, orders: Orders, password: str) -> None:
    name = f"reader_{os.getpid()}"
    role, literal = sql.Identifier(name), sql.Literal(password)
    orders.connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, literal))
    orders.connection.execute(sql.SQL("GRANT SELECT ON orders TO {}").format(role))
    known = airflow.connections["orders_db"]
    airflow.add_connection(
        "orders_db",
        "postgres",
        host=known.host,
        port=known.port,
        login=name,
        password=password,
        schema=known.schema,
    )

    def leak(connection: Any, key_range: Any) -> dict[str, Any]:
        import json
        import logging
        from urllib.parse import quote, quote_plus

        from psycopg.conninfo import make_conninfo

        secret = connection.info.password
        url, conninfo = quote(secret), make_conninfo(connection.info.dsn, password=secret)
        forms = [
            repr(secret),
            ascii(secret),
            json.dumps({"pw": secret}),
            conninfo,
            repr(conninfo),
            url,
            quote_plus(url),
        ]
        for form in [secret, *forms]:
            print(f"print {form}")
            logging.warning("warning %s", form)
        raise RuntimeError("; ".join(forms))

    task = BurlaPostgresOperator(
        task_id="t", table="orders", postgres_conn_id="orders_db", ranges=1, process_range=leak, consistency="none"
    )
    try:
        result = airflow.run(task, max_tries=1)
        assert result.log.count("***") > 20
        shown = everything(airflow, result).replace("\\", "")
        assert not [part for part in ("50%", "ÿ", "lines in", "xff", "u00ff", "%C3", "C3%BF") if part in shown]
    finally:
        orders.connection.execute(sql.SQL("REVOKE ALL ON orders FROM {}").format(role))
        orders.connection.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_wrong_password_is_not_shown_either(secret_connections: Airflow) -> None:
    known = secret_connections.connections["orders_db"]
    wrong = "wr0ng-but-still-secret"
    secret_connections.add_connection(
        "orders_db", "postgres", host=known.host, port=known.port, login=known.login, password=wrong, schema="postgres"
    )
    result = run(secret_connections, lambda rows: {})
    assert "postgres_conn_id: the login with the connection 'orders_db' was rejected: " in str(result.error)
    assert wrong not in everything(secret_connections, result)


def test_the_repr_of_the_pickled_task_has_no_password(orders: Orders) -> None:
    from burla_provider.ranges import Key
    from burla_provider.worker.processors import ProcessRows
    from burla_provider.worker.range_task import RangeTask
    from burla_provider.worker.source import Source

    work = RangeTask({"password": PASSWORD}, Source("public", "orders"), Key(), ProcessRows(len))  # type: ignore[arg-type]
    assert PASSWORD not in repr(work)


SERVICE_PASSWORD = "serv1ce-p@ssword"
API_TOKEN = "ap1-token-of-a-service"


@pytest.mark.parametrize("fails", [False, True])
def test_a_secret_among_the_arguments_is_shown_nowhere(
    secret_connections: Airflow, capfd: pytest.CaptureFixture[str], fails: bool
) -> None:
    def use(rows: Iterable[Any], password: str, token: str) -> dict[str, Any]:
        print(f"with {password} and {token}")
        if fails:
            raise RuntimeError(f"refused: password={password} token={token}")
        return {"letters": len(password) + len(token), "n": sum(1 for _ in rows)}

    secret_connections.add_connection("service", "http", password=SERVICE_PASSWORD)
    secret_connections.variables["api_token"] = API_TOKEN
    search = Search(PASSWORD, TOKEN, SERVICE_PASSWORD, API_TOKEN)
    search.start()
    arguments = {"password": "{{ conn.service.password }}", "token": "{{ var.value.api_token }}"}
    result = run(secret_connections, use, op_kwargs=arguments)
    search.done.set()
    search.join()
    assert result.state == ("up_for_retry" if fails else "success"), result.log
    assert search.found == []
    assert result.rendered["op_kwargs"] == {"password": "***", "token": "***"}
    if fails:
        assert "refused: password=*** token=***" in json.dumps(result.xcoms)
        assert "refused: password=*** token=***" in str(result.error)
    else:
        assert result.value["letters"] / 6 == len(SERVICE_PASSWORD) + len(API_TOKEN)
    # Airflow masks the log in the supervisor, which this test does not have.
    shown = everything(secret_connections, result).replace(result.log, str(redact(result.log)))
    assert not [secret for secret in (SERVICE_PASSWORD, API_TOKEN) if secret in shown + "".join(capfd.readouterr())]


class Stored(dict[str, Any]):
    """A state store that keeps every value that was stored in it."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[str] = []

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.all.append(f"{key}: {json.dumps(value)}")


SECRET = "s3cret-value-of-a-row"


@pytest.mark.parametrize("outcome", ["success", "failed"])
def test_a_secret_in_keys_and_parameters_is_in_no_report(airflow: Airflow, orders: Orders, outcome: str) -> None:
    orders.connection.execute(f"""
        CREATE TABLE names (name text PRIMARY KEY, n int);
        INSERT INTO names SELECT n || '-of-a-row', n FROM generate_series(100, 999) AS n;
        INSERT INTO names SELECT '{SECRET}' || coalesce(n, ''), 0 FROM unnest(ARRAY[NULL, 'a', 'b', 'c', 'd']) AS n;
        ANALYZE names
    """)

    def work(rows: Iterable[Any], given: str) -> dict[str, Any]:
        print(f"printed {given}")
        names = [row[0] for row in rows]
        if outcome == "failed" and any(given in name for name in names):
            raise RuntimeError(f"failed for {names[0]} {given}")
        return {"last": given + "x" * 190}

    task = BurlaPostgresOperator(
        task_id="t",
        table="names",
        postgres_conn_id="orders_db",
        key="name",
        ranges=400,
        process_rows=work,
        where="name <> %(given)s || 'e'",
        parameters={"given": SECRET},
        op_kwargs={"given": SECRET},
        combine=lambda results: {"last": "x" * 190 + SECRET},
        isolate_failures=False,
    )
    stored = airflow.state_store = Stored()
    result = airflow.run(task, max_tries=1, on_ready=lambda: mask_secret(SECRET))
    report = result.xcoms["burla_report"]
    assert result.state == ("success" if outcome == "success" else "up_for_retry"), result.log
    assert any(name.startswith("burla_report") for name in stored.all) == HAS_STATE_STORES
    assert [text for text in stored.all if SECRET in text] == []
    assert SECRET not in json.dumps(report)
    assert [text for text in find_parts(report) if SECRET[:-3] in text] == []
    if outcome == "failed":
        ranges = [one for group in report["failures"]["groups"] for one in group["ranges"]]
        assert any("***" in one["item"] and "***" in one["where"] for one in ranges), ranges
        assert SECRET not in str(result.error)
    assert [line for line in result.log.splitlines() if SECRET in line and "printed" in line] == []
    assert "printed ***" in result.log


def find_parts(value: Any) -> list[str]:
    """Return all texts in JSON data."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for part in value for text in find_parts(part)]
    return [value] if isinstance(value, str) else []


def test_a_secret_in_an_input_is_in_no_report(airflow: Airflow) -> None:
    def work(value: dict[str, str]) -> str:
        raise RuntimeError(f"failed for {value}")

    task = BurlaMapOperator(
        task_id="t", python_callable=work, inputs=[{"password": SECRET}, {"text": "x" * 40 + SECRET}]
    )
    stored = airflow.state_store = Stored()
    result = airflow.run(task, max_tries=1, on_ready=lambda: mask_secret(SECRET))
    assert result.state == "up_for_retry", result.log
    shown = [*stored.all, json.dumps(result.xcoms), str(result.error), result.log]
    assert [text for text in shown if SECRET in text or SECRET[:-3] in text] == []


@pytest.mark.parametrize(
    "options", [{"op_kwargs": "{{ conn.shop.password }}"}, {"max_parallelism": "{{ conn.shop.password }}"}]
)
def test_a_secret_that_a_parameter_cannot_use_is_in_no_error(airflow: Airflow, options: dict[str, str]) -> None:
    airflow.add_connection("shop", "http", password=SECRET)
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=abs, inputs=[1], **options))
    assert "got '***'" in str(result.error)
    assert SECRET not in result.log + json.dumps(result.xcoms)


def test_nor_if_the_task_keeps_its_retries_because_of_it(airflow: Airflow, orders: Orders) -> None:
    airflow.add_connection("shop", "http", password=SECRET)
    operator = BurlaPostgresOperator(
        task_id="t", table="orders", process_range=divmod, ledger="runs", ranges="{{ conn.shop.password }}", retries=2
    )
    result = airflow.run(operator, try_number=2, max_tries=2)
    assert result.state == "up_for_retry", result.log
    assert "got '***'" in str(result.error)
    assert SECRET not in result.log + json.dumps(result.xcoms)
