"""The doctor: each step is made to fail in turn, and its line says what to do."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import venv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.secrets.environment_variables import EnvironmentVariablesBackend

from burla_provider.demo.airflow_home import AirflowHome
from burla_provider.doctor import checks
from burla_provider.doctor.__main__ import main
from burla_provider.hooks.burla import BurlaHook
from tests.airflow.conftest import Orders
from tests.support.black_network import BlackNetwork
from tests.support.postgres import running_server
from tests.support.waiting import wait_for

PASSWORD = "correct-horse-battery"
TOKEN = "staple-of-the-cluster"
LOCAL = {"conn_type": "burla", "extra": {"engine": "local"}}
READY_NODE = {"ready_nodes": [{}], "running_count": 0, "booting_count": 0}


@dataclass
class Result:
    """What the command printed.

    :ivar lines: title -> mark and text.
    """

    status: int
    output: str

    @property
    def lines(self) -> dict[str, tuple[str, str]]:
        parts = [line.partition("  ") for line in self.output.strip().splitlines()[:-2]]
        return {head[2:]: (head[0], text.strip()) for head, _, text in parts}

    @property
    def failed(self) -> list[str]:
        return [title for title, (mark, _) in self.lines.items() if mark == "✗"]

    @property
    def skipped(self) -> list[str]:
        return [title for title, (mark, _) in self.lines.items() if mark == "-"]

    def text(self, title: str) -> str:
        return self.lines[title][1]


@dataclass
class Doctor:
    """A role that may read the orders, and the connections, which a test changes before it calls ``run``."""

    orders: Orders
    postgres: dict[str, Any]
    burla: dict[str, Any]
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def sql(self, statement: str) -> None:
        self.orders.connection.execute(statement)

    def run(self, *arguments: str, only: tuple[str, ...] = ("orders_db", "burla_default")) -> Result:
        for conn_id, fields in {"orders_db": self.postgres, "burla_default": self.burla}.items():
            if conn_id in only:
                self.monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
        status = main(["--postgres-conn-id", "orders_db", "--burla-conn-id", "burla_default", *arguments])
        output = self.capsys.readouterr()
        assert output.err == ""
        assert PASSWORD not in output.out
        assert TOKEN not in output.out
        return Result(status, output.out)


@pytest.fixture
def doctor(
    orders: Orders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Doctor]:
    """All that the doctor checks, in order, with the local engine."""
    # ``main`` sets them. No test leaves them behind.
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "client")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "5")
    # Airflow's database, which the tests do not create.
    monkeypatch.setattr(checks, "ensure_secrets_loaded", lambda: [EnvironmentVariablesBackend()])
    # No login that is saved on this machine.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("BURLA_CLUSTER_DASHBOARD_URL", raising=False)
    info = orders.connection.info
    role = f"reader_of_{info.dbname}"
    orders.connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    orders.connection.execute(f"GRANT SELECT ON orders TO {role}")
    postgres = {"conn_type": "postgres", "host": info.host, "port": info.port, "schema": info.dbname}
    yield Doctor(orders, {**postgres, "login": role, "password": PASSWORD}, dict(LOCAL), monkeypatch, capsys)
    orders.connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_everything_passes(doctor: Doctor) -> None:
    doctor.sql(f"GRANT INSERT, UPDATE, DELETE ON orders TO {doctor.postgres['login']}")
    result = doctor.run("--table", "orders", "--write")
    assert result.status == 0, result.output
    assert list(result.lines) == [
        *("Provider", "Connection orders_db", "Connection burla_default", "Database from here"),
        *("Read orders", "Write orders", "Connection limit", "Snapshot"),
        *("Cluster", "Start a job", "Packages", "Database from a worker"),
    ]
    assert {mark for mark, _ in result.lines.values()} == {"✓"}
    assert result.output.endswith("\nAll 12 checks passed.\n")
    assert result.text("Database from a worker").startswith("PostgreSQL ")


def test_without_a_table_no_table_is_read(doctor: Doctor) -> None:
    doctor.sql(f"REVOKE ALL ON orders FROM {doctor.postgres['login']}")
    result = doctor.run()
    assert result.status == 0, result.output
    assert not {"Read orders", "Write orders"} & set(result.lines)


# The first steps: Airflow. They are replaced, because this interpreter has the provider.


class NoProviders:
    providers: Mapping[str, Any] = {}
    hooks: Mapping[str, Any] = {}


def test_a_provider_that_airflow_does_not_find(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "ProvidersManager", NoProviders)
    result = doctor.run()
    assert (result.status, result.failed, result.skipped) == (1, ["Provider"], [])
    assert f"Install it with pip for {sys.executable}" in result.text("Provider")


def test_a_plugin_that_airflow_does_not_load(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "get_plugin_info", lambda _: [{"name": "another"}])
    result = doctor.run()
    assert (result.status, result.failed, result.skipped) == (1, ["Provider"], [])
    assert "`airflow plugins` shows the error" in result.text("Provider")


# The connections

OF_DATABASE = ["Database from here", "Read orders", "Connection limit", "Snapshot", "Database from a worker"]
OF_CLUSTER = ["Cluster", "Login", "Free node", "Start a job", "Packages", "Database from a worker"]


def test_a_missing_postgres_connection_ends_only_what_needs_the_database(doctor: Doctor) -> None:
    result = doctor.run("--table", "orders", only=("burla_default",))
    assert (result.status, result.failed, result.skipped) == (1, ["Connection orders_db"], OF_DATABASE)
    assert "airflow connections add orders_db --conn-type postgres" in result.text("Connection orders_db")
    assert "--conn-port 5432" in result.text("Connection orders_db")
    assert result.text("Snapshot") == "needs Connection orders_db"
    assert result.output.endswith("\n1 of 11 checks failed, 5 skipped.\n")


def test_a_missing_burla_connection_ends_only_what_needs_the_cluster(doctor: Doctor) -> None:
    result = doctor.run("--table", "orders", only=("orders_db",))
    assert (result.status, result.failed, result.skipped) == (1, ["Connection burla_default"], OF_CLUSTER)
    assert "airflow connections add burla_default --conn-type burla" in result.text("Connection burla_default")


def test_a_connection_of_another_type(doctor: Doctor) -> None:
    doctor.postgres["conn_type"] = "mysql"
    result = doctor.run()
    assert result.failed == ["Connection orders_db"]
    assert "It is of type mysql, not postgres. Name another connection" in result.text("Connection orders_db")


def test_a_burla_connection_with_an_unknown_engine(doctor: Doctor) -> None:
    doctor.burla["extra"] = {"engine": "spark"}
    result = doctor.run()
    assert result.failed == ["Connection burla_default"]
    assert "unknown engine 'spark'. Use 'burla' or 'local'." in result.text("Connection burla_default")


def test_a_connection_that_airflow_cannot_read(doctor: Doctor) -> None:
    doctor.monkeypatch.setenv("AIRFLOW_CONN_ORDERS_DB", f"postgres://reader:{PASSWORD}#@127.0.0.1/shop")
    text = doctor.run(only=("burla_default",)).text("Connection orders_db")
    assert text.startswith("Airflow cannot read it: ValueError in EnvironmentVariablesBackend. Correct the value, or")


@pytest.mark.parametrize("extra", ["sslmode=require", "[1]", "null"])
def test_an_extra_that_is_not_an_object(doctor: Doctor, extra: str) -> None:
    doctor.postgres["extra"] = doctor.burla["extra"] = extra
    result = doctor.run()
    assert result.failed == ["Connection orders_db", "Connection burla_default"]
    assert result.text("Connection orders_db").startswith("extra: is not a JSON object. Write it as in ")


# The database


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"host": "no-such-host.invalid"}, "Check host and port of the connection"),
        ({"port": 1}, "Check host and port of the connection"),
        ({"password": "wrong-password"}, "Check its host, database, login and password."),
        ({"login": "nobody_of_this_name"}, "Check its host, database, login and password."),
        ({"schema": "no_such_database"}, "Check its host, database, login and password."),
        ({"extra": {"ssl_mode": "require"}}, 'invalid connection option "ssl_mode". Correct it in its port or extra.'),
        ({"extra": {"sslmode": "on"}}, 'invalid sslmode value: "on". Correct it in its port or extra.'),
        ({"extra": {"sslmode": "require"}}, "Check sslmode and the other parameters in the extra"),
        ({"extra": {"channel_binding": "require"}}, "Check sslmode and the other parameters in the extra"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_database_that_cannot_be_reached(doctor: Doctor, change: dict[str, Any], remedy: str) -> None:
    doctor.postgres |= change
    result = doctor.run("--table", "orders")
    assert (result.status, result.failed, result.skipped) == (1, ["Database from here"], OF_DATABASE[1:])
    assert remedy in result.text("Database from here")
    assert result.text("Database from here").count("Check") == remedy.count("Check")
    assert "wrong-password" not in result.output


def test_a_database_that_does_not_allow_this_address(doctor: Doctor) -> None:
    with running_server() as server, psycopg.connect(server.dsn, autocommit=True) as connection:
        (server.home / "pg_hba.conf").write_text("host all all 203.0.113.0/24 scram-sha-256\n")
        connection.execute("SELECT pg_reload_conf()")
        info = connection.info
        doctor.postgres |= {"port": info.port, "schema": info.dbname, "login": info.user, "password": info.password}
        # The server reads the file a moment after it answered.
        wait_for(lambda: doctor.run().failed == ["Database from here"])
        text = doctor.run().text("Database from here")
        assert f'no pg_hba.conf entry for host "{info.host}"' in text
    assert text.endswith("Allow this address in the server's pg_hba.conf, and reload the configuration.")


def test_a_table_that_does_not_exist(doctor: Doctor) -> None:
    result = doctor.run("--table", "ordres", "--write")
    assert (result.failed, result.skipped) == (["Read ordres"], ["Write ordres", "Snapshot"])
    assert '"ordres" not found in database ' in result.text("Read ordres")


def test_a_table_that_the_role_may_not_read(doctor: Doctor) -> None:
    doctor.sql(f"REVOKE SELECT ON orders FROM {doctor.postgres['login']}")
    result = doctor.run("--table", "orders")
    assert (result.failed, result.skipped) == (["Read orders"], ["Snapshot"])
    assert "this role cannot read public.orders. GRANT SELECT on it." in result.text("Read orders")


def test_a_table_that_the_role_may_not_write(doctor: Doctor) -> None:
    doctor.sql(f"GRANT INSERT ON orders TO {doctor.postgres['login']}")
    assert doctor.run("--table", "orders", "--write", "INSERT").status == 0
    result = doctor.run("--table", "orders", "--write")
    assert (result.failed, result.skipped) == (["Write orders"], [])
    assert result.text("Write orders").endswith(" cannot UPDATE, DELETE in orders. GRANT UPDATE, DELETE on it.")


def test_a_session_that_may_not_write(doctor: Doctor) -> None:
    role = doctor.postgres["login"]
    doctor.sql(f"GRANT INSERT ON orders TO {role}; ALTER ROLE {role} SET default_transaction_read_only = on")
    result = doctor.run("--table", "orders", "--write", "INSERT")
    assert result.failed == ["Write orders"]
    assert "read-only. Use the primary, or default_transaction_read_only=off." in result.text("Write orders")


def test_no_connection_to_spare(doctor: Doctor) -> None:
    doctor.sql(f"ALTER ROLE {doctor.postgres['login']} CONNECTION LIMIT 1")
    result = doctor.run("--table", "orders")
    assert (result.failed, result.skipped) == (["Connection limit"], ["Snapshot", "Database from a worker"])
    assert "role 0 (1 - 1 in use)" in result.text("Connection limit")
    assert "or raise the limit" in result.text("Connection limit")


def test_as_many_connections_as_a_job_with_one_worker_needs_are_enough(doctor: Doctor) -> None:
    doctor.sql(f"ALTER ROLE {doctor.postgres['login']} CONNECTION LIMIT 2")
    result = doctor.run("--table", "orders")
    assert result.status == 0, result.output


def test_a_snapshot_needs_all_columns(doctor: Doctor) -> None:
    role = doctor.postgres["login"]
    doctor.sql(f"REVOKE SELECT ON orders FROM {role}; GRANT SELECT (id, amount) ON orders TO {role}")
    result = doctor.run("--table", "orders")
    assert (result.failed, result.skipped) == (["Snapshot"], [])
    assert 'GRANT SELECT on the table, or use consistency="none"' in result.text("Snapshot")


def test_a_snapshot_that_the_role_may_not_export(doctor: Doctor) -> None:
    doctor.sql("REVOKE EXECUTE ON FUNCTION pg_export_snapshot() FROM PUBLIC")
    result = doctor.run()
    assert (result.failed, result.skipped) == (["Snapshot"], [])
    assert 'Or use consistency="none"' in result.text("Snapshot")


# The cluster. What a real one does is in tests/cluster/test_doctor.py.


@pytest.fixture
def head() -> Iterator[Callable[[int, dict[str, Any]], dict[str, Any]]]:
    """Return a function that starts the head of a cluster, and returns a connection to it.

    It is a fake: the real one of `make cluster` accepts every login, and its node is free.
    """
    answer: dict[str, Any] = {}

    class Head(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = (200, {"version": "1.8.4"}) if self.path == "/version" else answer["state"]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Head) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def connect(status: int, state: dict[str, Any]) -> dict[str, Any]:
            answer["state"] = status, state
            url = f"http://127.0.0.1:{server.server_port}"
            return {"conn_type": "burla", "host": url, "login": "me@example.com", "password": TOKEN}

        yield connect
        server.shutdown()


def test_a_cluster_that_does_not_answer(doctor: Doctor) -> None:
    doctor.burla = {"conn_type": "burla", "host": "http://127.0.0.1:9", "login": "me@example.com", "password": TOKEN}
    result = doctor.run("--table", "orders")
    assert (result.status, result.failed, result.skipped) == (1, ["Cluster"], OF_CLUSTER[1:])
    assert "No response from http://127.0.0.1:9" in result.text("Cluster")
    assert "Check the host of the Burla connection and the network." in result.text("Cluster")


def test_no_cluster_is_named(doctor: Doctor) -> None:
    doctor.burla = {"conn_type": "burla"}
    result = doctor.run()
    assert result.failed == ["Cluster"]
    assert result.text("Cluster").startswith("host: is missing, and no Burla login is saved on this machine. Set it to")


def test_a_cluster_that_refuses_the_login(doctor: Doctor, head: Any) -> None:
    doctor.burla = head(401, {})
    result = doctor.run()
    assert (result.failed, result.skipped) == (["Login"], OF_CLUSTER[2:])
    assert "Check login (e-mail) and password (token) of the Burla connection." in result.text("Login")


@pytest.mark.parametrize(
    ("state", "text"), [({"running_count": 2}, "0 nodes ready, 2 busy."), ({"booting_count": 1}, "0 nodes ready, 1 bo")]
)
def test_no_node_is_free(doctor: Doctor, head: Any, state: dict[str, int], text: str) -> None:
    doctor.burla = head(200, {**READY_NODE, "ready_nodes": [], **state})
    result = doctor.run()
    assert (result.failed, result.skipped) == (["Free node"], OF_CLUSTER[3:])
    assert result.text("Free node").startswith(text)
    assert "Start a node, wait until one is free, or use grow=True (here: --grow)." in result.text("Free node")


@pytest.fixture
def bare_python(tmp_path: Path) -> str:
    """Return an interpreter without any packages."""
    venv.create(tmp_path / "bare")
    return str(tmp_path / "bare" / "bin" / "python")


def test_an_interpreter_without_burla(doctor: Doctor, head: Any, bare_python: str) -> None:
    doctor.burla = head(200, READY_NODE) | {"extra": {"python": bare_python}}
    result = doctor.run()
    assert (result.failed, result.skipped) == (["Start a job"], OF_CLUSTER[4:])
    assert f"{bare_python} has no burla. pip install 'airflow-provider-burla[burla]'" in result.text("Start a job")


def test_an_interpreter_that_does_not_exist(doctor: Doctor) -> None:
    doctor.burla["extra"] = {"engine": "local", "python": "/no/such/python"}
    result = doctor.run()
    assert (result.failed, result.skipped) == (["Start a job"], ["Packages", "Database from a worker"])
    assert "/no/such/python cannot be run" in result.text("Start a job")


# Packages, and the database as a worker sees it


def test_a_local_interpreter_without_packages(doctor: Doctor, bare_python: str) -> None:
    doctor.burla["extra"] = {"engine": "local", "python": bare_python}
    result = doctor.run()
    assert (result.failed, result.skipped) == (["Start a job"], ["Packages", "Database from a worker"])
    assert "No module named 'cloudpickle' - the workers do not have it." in result.text("Start a job")


def test_a_package_of_the_user_that_is_not_installed(doctor: Doctor) -> None:
    result = doctor.run("--requirements", "no-such-package==1.0")
    assert (result.failed, result.skipped) == (["Packages"], ["Database from a worker"])
    assert "Install no-such-package==1.0 there" in result.text("Packages")


def test_a_worker_that_cannot_reach_the_database(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    network = BlackNetwork(doctor.postgres["host"], doctor.postgres["port"])
    doctor.postgres |= {"host": "127.0.0.1", "port": network.port}
    run = BurlaHook.run

    def run_in_the_dark(self: BurlaHook, *args: Any, **options: Any) -> Any:
        network.go_black()
        return run(self, *args, **options)

    monkeypatch.setattr(BurlaHook, "run", run_in_the_dark)
    result = doctor.run()
    network.close()
    assert (result.failed, result.skipped) == (["Database from a worker"], [])
    assert "timeout" in result.text("Database from a worker")
    assert "Workers connect to this host and port from their own machines" in result.text("Database from a worker")


# Output


def test_secrets_in_a_servers_messages_are_hidden(doctor: Doctor) -> None:
    doctor.postgres["login"] = PASSWORD
    doctor.burla = {"conn_type": "burla", "host": f"https://{TOKEN}.invalid", "login": "a@b.example", "password": TOKEN}
    result = doctor.run()
    assert (result.status, result.failed) == (1, ["Database from here", "Cluster"])
    assert 'user "***"' in result.text("Database from here")
    assert "https://***.invalid" in result.text("Cluster")


def test_a_terminal_without_check_marks_gets_words(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    doctor.run("--table", "tâble", only=("orders_db",))
    lines = stdout.buffer.getvalue().decode("ascii").splitlines()  # type: ignore[attr-defined]
    assert lines[0].startswith("ok      Provider  ")
    assert any(line.startswith("FAILED  Connection burla_default  ") for line in lines)
    assert any(line.startswith("FAILED  Read t?ble  ") for line in lines)
    assert any(line.startswith("skipped Cluster  ") for line in lines)


def test_write_without_a_table_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--write"])
    assert "--write needs --table" in capsys.readouterr().err


def test_the_command_finds_the_connections_in_airflows_database(doctor: Doctor, tmp_path: Path) -> None:
    home = AirflowHome(tmp_path / "airflow")
    home.prepare()
    with home.session() as session:
        records = session.records()
        next(record for record in records if record.get("demo") == "ready")
        session.send_connections(
            [
                {"conn_id": "in_database", **doctor.postgres},
                {"conn_id": "burla_default", "conn_type": "burla", "extra": json.dumps(LOCAL["extra"])},
            ]
        )
        for _ in records:
            pass
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
    command = [sys.executable, "-m", "burla_provider.doctor", "--postgres-conn-id", "in_database", "--table", "orders"]
    answer = subprocess.run(
        command, capture_output=True, text=True, env={**environment, "AIRFLOW_HOME": str(home.path)}, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stderr == ""
    assert "✓ Connection in_database    of type postgres\n" in answer.stdout
    assert PASSWORD not in answer.stdout
