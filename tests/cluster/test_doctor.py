"""The doctor on the real cluster."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from burla_provider.demo.cluster import find_bridge
from tests.airflow.conftest import airflow, orders  # noqa: F401
from tests.airflow.test_doctor import TOKEN, Doctor, doctor  # noqa: F401
from tests.cluster.airflow.conftest import postgres_server  # noqa: F401
from tests.cluster.jobs.conftest import Cluster, cluster, running_cluster  # noqa: F401
from tests.support.postgres import running_server


@pytest.fixture
def on_cluster(doctor: Doctor, cluster: Cluster) -> Doctor:  # noqa: F811
    """Return all that the doctor checks, in order, with the cluster."""
    engine = cluster.engine
    doctor.burla = {"conn_type": "burla", "host": engine.url, "login": engine.email, "password": engine.token}
    return doctor


def test_everything_passes(on_cluster: Doctor) -> None:
    result = on_cluster.run("--table", "orders", "--requirements", "six")
    assert result.status == 0, result.output
    assert result.output.endswith("\nAll 13 checks passed.\n")
    assert result.text("Login") == "accepted for kit@example.com"
    assert result.text("Free node") == "1 node ready"
    assert result.text("Packages") == "a worker has psycopg[binary], tenacity, six"
    assert result.text("Database from a worker").startswith("PostgreSQL ")


def test_a_wrong_token(on_cluster: Doctor) -> None:
    # The head of this cluster accepts every login; its nodes do not.
    on_cluster.burla["password"] = TOKEN
    result = on_cluster.run()
    assert (result.failed, result.skipped) == (["Start a job"], ["Packages", "Database from a worker"])
    assert "Check login (e-mail) and password (token) of the Burla connection." in result.text("Start a job")


def test_packages_that_cannot_be_installed(on_cluster: Doctor) -> None:
    result = on_cluster.run("--requirements", "six==0.0.0")
    assert (result.failed, result.skipped) == (["Packages"], ["Database from a worker"])
    assert "uv failed to install" in result.text("Packages")


@pytest.fixture
def closed_server(running_cluster: Cluster) -> Iterator[psycopg.ConnectionInfo]:  # noqa: F811
    """Return a server at the same address as the others, which does not accept workers (pg_hba.conf)."""
    with (
        running_server(listen=(find_bridge(), "127.0.0.1")) as server,
        psycopg.connect(server.dsn, autocommit=True) as connection,
    ):
        yield connection.info


def test_a_database_that_does_not_accept_workers(on_cluster: Doctor, closed_server: psycopg.ConnectionInfo) -> None:
    info = closed_server
    on_cluster.postgres |= {"host": find_bridge(), "port": info.port, "schema": info.dbname}
    on_cluster.postgres |= {"login": info.user, "password": info.password}
    result = on_cluster.run()
    assert (result.failed, result.skipped) == (["Database from a worker"], [])
    text = result.text("Database from a worker")
    assert "no pg_hba.conf entry" in text
    assert "The server accepts the task, but not the workers: allow their addresses too." in text
    assert info.password not in result.output


def test_a_loopback_address(on_cluster: Doctor) -> None:
    on_cluster.postgres["host"] = "127.0.0.1"
    result = on_cluster.run()
    assert (result.failed, result.skipped) == (["Database from a worker"], [])
    assert "to a worker is the worker itself. Use the host at which" in result.text("Database from a worker")
