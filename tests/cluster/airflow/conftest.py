"""Airflow's task runner, a PostgreSQL that the workers reach, and the real cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from burla_provider.demo.cluster import WORKER_NETWORKS, find_bridge
from tests.airflow.conftest import Orders, airflow, orders  # noqa: F401
from tests.cluster.jobs.conftest import Cluster, cluster, running_cluster  # noqa: F401
from tests.support.postgres import PostgresServer, running_server
from tests.support.task_runner import Airflow


@pytest.fixture(scope="session")
def postgres_server(running_cluster: Cluster) -> Iterator[PostgresServer]:  # noqa: F811
    """Return a server that also listens where the cluster's workers reach it."""
    with running_server(listen=(find_bridge(), "127.0.0.1"), networks=WORKER_NETWORKS) as server:
        yield server


@pytest.fixture
def on_burla(airflow: Airflow, cluster: Cluster, orders: Orders) -> Airflow:  # noqa: F811
    """Return Airflow with a connection ``burla_default`` to the cluster."""
    engine = cluster.engine
    airflow.add_connection("burla_default", "burla", host=engine.url, login=engine.email, password=engine.token)
    return airflow
