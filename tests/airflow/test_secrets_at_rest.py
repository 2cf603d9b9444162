"""No secret is stored or printed by a real Airflow: its database, its logs, OpenLineage's events, and its CLI."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.airflow.conftest import needs_state_stores
from tests.support.airflow_commands import run_commands
from tests.support.postgres import PostgresServer

DAG = "secrets_everywhere"
FILE = Path(__file__).parent / "secret_dags" / f"{DAG}.py"
SECRETS = {
    "the database's password": "s3cret'pass%word",
    "the cluster's token": "t0ken-of-the-cluster",
    "a service's password": "serv1ce-p@ssword",
    "a variable": "ap1-token-of-a-service",
}
RENDER = [["tasks", "render", DAG, task, "2026-11-20"] for task in ("failing", "incremental")]
COMMANDS = [
    ["tasks", "test", DAG, "mapped", "2026-11-21"],
    ["dags", "test", DAG, "2026-11-22"],
    ["tasks", "state", DAG, "mapped", "2026-11-21"],
]


@dataclass(frozen=True)
class Rest:
    """What is left when the commands have ended."""

    home: Path
    printed: str

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.home / "airflow.db")) as connection:
            return connection.execute(f"SELECT * FROM {table}").fetchall()


@pytest.fixture(scope="module")
def rest(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Rest:
    home = tmp_path_factory.mktemp("airflow")
    password, token, service, variable = SECRETS.values()
    with postgres_server.database() as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("""
            CREATE TABLE orders AS SELECT 10 * n AS id, 'note ' || n AS note FROM generate_series(1, 8000) AS n;
            ALTER TABLE orders ADD PRIMARY KEY (id);
            ANALYZE orders
        """)
        create = "CREATE ROLE rest_reader LOGIN PASSWORD {}; GRANT SELECT ON orders TO rest_reader"
        connection.execute(sql.SQL(create).format(sql.Literal(password)))
        info = connection.info
        database = {"host": info.host, "port": info.port, "schema": info.dbname, "login": "rest_reader"}
        cluster = {"login": "me@example.com", "password": token, "extra": json.dumps({"engine": "local"})}
        try:
            printed = run_commands(
                home,
                FILE,
                [*RENDER, *COMMANDS],
                [
                    {"conn_id": "orders_db", "conn_type": "postgres", "password": password, **database},
                    {"conn_id": "burla_default", "conn_type": "burla", **cluster},
                ],
                {
                    # The command "tasks render" does not look into the database.
                    "AIRFLOW_CONN_SERVICE": json.dumps({"conn_type": "http", "password": service}),
                    "AIRFLOW_VAR_API_TOKEN": variable,
                    "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "file", "log_file_path": f"{home}/events"}),
                    # Otherwise Airflow stores its connections as they are.
                    "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(bytes(range(32))).decode(),
                },
            )
        finally:
            connection.execute("DROP OWNED BY rest_reader; DROP ROLE rest_reader")
    return Rest(home, printed)


def found(text: bytes) -> list[str]:
    """Return which secrets the text has, as they are or as JSON."""
    forms = {name: {secret, json.dumps(secret)[1:-1], secret.replace("'", "''")} for name, secret in SECRETS.items()}
    return [name for name, texts in forms.items() if any(form.encode() in text for form in texts)]


def test_the_commands_print_no_secret(rest: Rest) -> None:
    printed = [text for text in rest.printed.split("\n== airflow ") if not text.startswith("tasks render")]
    assert len(printed) == 1 + len(COMMANDS)
    assert "no call for password=*** token=***" in printed[1]
    assert "no rows for password=*** token=***" in printed[2]
    # "dags test" has no supervisor, which masks the log.
    assert "rows with *** and ***" in printed[2]
    assert [line for text in printed for line in text.splitlines() if found(line.encode())] == []


def test_rendering_prints_the_secrets_of_templates_only(rest: Rest) -> None:
    rendered = [text for text in rest.printed.split("\n== airflow ") if text.startswith("tasks render")]
    assert [text.count("# property: sql\n") for text in rendered] == [1, 1]
    # Airflow masks nothing here. The logins of the connections are not in any template.
    assert set(found("\n".join(rendered).encode())) <= {"a service's password", "a variable"}


def test_the_database_and_the_files_of_airflow_have_no_secret(rest: Rest) -> None:
    files = {path.name: path.read_bytes() for path in rest.home.rglob("*") if path.is_file()}
    assert any(b"rest_reader" in text for text in files.values()), "the search finds nothing"
    assert "airflow.db" in files
    events = {name for name in files if name.startswith("events")}
    assert events or importlib.util.find_spec("airflow.providers.openlineage") is None
    files |= {name: without_parameters(files[name]) for name in events}
    assert {name: secrets for name, text in files.items() if (secrets := found(text))} == {}


def without_parameters(events: bytes) -> bytes:
    """OpenLineage's provider copies the rendered ``parameters`` of a task, and masks nothing in that copy."""
    read = [json.loads(line) for line in events.splitlines()]
    for event in read:
        event["run"]["facets"].get("airflow", {}).get("task", {}).pop("parameters", None)
    return json.dumps(read).encode()


def test_the_audit_log_has_the_commands(rest: Rest) -> None:
    events = set(map(str, rest.rows("log")))
    assert any("cli_task_test" in event for event in events), events


@needs_state_stores
def test_the_stores_have_the_jobs_and_no_secret(rest: Rest) -> None:
    rows = str([*rest.rows("task_state_store"), *rest.rows("asset_state_store")])
    assert "burla_checkpoint" in rows
    assert "burla_high_water_mark" in rows
    # The random id of the job, and what it has compressed.
    chunks = [re.fullmatch("[0-9a-f]{16}(eJ.*)", text) for text in json_texts(rest.rows("task_state_store"))]
    packed = [chunk[1] for chunk in chunks if chunk]
    assert packed
    assert [names for text in packed if (names := found(zlib.decompress(base64.b64decode(text))))] == []


def json_texts(rows: list[tuple[Any, ...]]) -> Iterator[str]:
    for value in (value for row in rows for value in row if isinstance(value, str)):
        try:
            loaded = json.loads(value)
        except ValueError:
            continue
        if isinstance(loaded, str):
            yield loaded
