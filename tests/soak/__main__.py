"""``python -m tests.soak --minutes 60``: ten DAGs in a real Airflow, while tables change and parts are killed.

At the end, everything that the DAGs have returned and written is compared with SQL. The exit status is 0 if all is
right and nothing has grown. The same seed draws the same kills, but machines are never equally fast.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from burla_provider.demo.cluster import WORKER_NETWORKS, find_bridge
from burla_provider.exceptions import ClusterNotFoundError, ClusterUnreachableError
from burla_provider.jobs.cluster_api import check_cluster
from tests.cluster.jobs.conftest import Cluster
from tests.soak.airflow import SETTINGS, SoakAirflow, adopt_orphans
from tests.soak.chaos import SoakChaos
from tests.soak.checks import Checks, check_overwrite
from tests.soak.meter import Meter
from tests.soak.tables import SOURCE, TARGET
from tests.soak.writers import Writers
from tests.support.airflow_server import postgres_connection, running_airflow
from tests.support.postgres import PostgresServer, running_server

DAGS = 10
_HOME = Path(__file__).parents[2] / "test-artifacts" / "soak"
"""Of Airflow, with its logs."""
_QUIET_SECONDS = 80
"""How long before the end the kills and the writers stop: each DAG then runs once more."""
_LAST_RUNS_SECONDS = 420
_DURABLE = {"synchronous_commit": "on", "autovacuum": "on", "max_connections": "100"}
"""A crash of the server must lose nothing."""


@dataclass(frozen=True)
class Soak:
    """A running soak."""

    airflow: SoakAirflow
    server: PostgresServer
    source: str
    target: str
    cluster: Cluster | None

    @contextmanager
    def connect(self) -> Iterator[tuple[psycopg.Connection[Any], psycopg.Connection[Any]]]:
        """Connect to both databases."""
        with (
            psycopg.connect(self.source, autocommit=True) as source,
            psycopg.connect(self.target, autocommit=True) as target,
        ):
            yield source, target


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Run ten DAGs for some minutes.")
    parser.add_argument("--minutes", type=float, default=60, help="how long the DAGs run (default: 60)")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of the kills and the writers")
    parser.add_argument("--engine", choices=["both", "local"], default="both", help="both: if a cluster runs here")
    options = parser.parse_args()
    # Ending in between must end Airflow, too. A process that a shell starts with & ignores SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of sessions that were killed
    adopt_orphans()
    cluster = find_cluster() if options.engine == "both" else None
    where = "and the cluster" if cluster else "alone: no cluster runs here" if options.engine == "both" else "alone"
    say(f"Soak of {options.minutes:g} minutes, --seed {options.seed}, on the local engine {where}")
    with start(cluster) as soak:
        failures = run(soak, options.minutes * 60, options.seed)
    for failure in failures:
        say(f"FAILED: {failure}")
    say(f"{len(failures)} failures" if failures else "Everything is right, and nothing has grown.")
    return 1 if failures else 0


def find_cluster() -> Cluster | None:
    """Return the cluster of `make cluster`; None: none runs."""
    try:
        find_bridge()
        check_cluster(Cluster.engine)
    except (ClusterNotFoundError, ClusterUnreachableError):
        return None
    return Cluster()


@contextmanager
def start(cluster: Cluster | None) -> Iterator[Soak]:
    """Start the servers, create the tables, and start Airflow."""
    local = {"conn_type": "burla", "extra": json.dumps({"engine": "local"})}
    reachable: dict[str, Any] = {}
    if cluster is not None:
        reachable = {"listen": (find_bridge(), "127.0.0.1"), "networks": WORKER_NETWORKS}
    with ExitStack() as stack:
        server = stack.enter_context(running_server(settings=_DURABLE, **reachable))
        metadata = stack.enter_context(running_server(settings=_DURABLE))
        source, target = (stack.enter_context(server.database(name)) for name in ("source", "target"))
        for conninfo, statements in ((source, SOURCE), (target, TARGET)):
            with psycopg.connect(conninfo) as connection:
                connection.execute(statements.encode())
        shutil.rmtree(_HOME, ignore_errors=True)
        _HOME.mkdir(parents=True)
        connections = {
            "soak_source": postgres_connection(source),
            "soak_target": postgres_connection(target),
            "burla_one": local,
            "burla_two": _cluster_connection(cluster) if cluster else local,
        }
        settings = {**SETTINGS, "DATABASE__SQL_ALCHEMY_CONN": _sqlalchemy_url(metadata)}
        environment = {f"AIRFLOW__{name}": value for name, value in settings.items()}
        dags = Path(__file__).parent / "dags"
        airflow_server = stack.enter_context(running_airflow(_HOME, dags, connections, environment))
        airflow = SoakAirflow(airflow_server, metadata.conninfo())
        stack.callback(airflow.close)
        say(f"Airflow is healthy: {airflow_server.url}, logs in {_HOME}")
        airflow.unpause(DAGS)
        yield Soak(airflow, server, source, target, cluster)


def run(soak: Soak, seconds: float, seed: int) -> list[str]:
    """Run the DAGs and return what is wrong."""
    failures: list[str] = []
    overwrites: set[str] = set()
    with Meter(soak.airflow, soak.source) as meter:
        with Writers(soak.source, soak.target, seed) as writers:
            chaos = SoakChaos(seed, seconds - _QUIET_SECONDS, soak.airflow, soak.server, soak.cluster)
            while chaos():
                time.sleep(1)
                failures += look_at_overwrite(soak, overwrites)
        say(f"The writers have committed {writers.commits:,} transactions. Each DAG runs once more.")
        failures += writers.failures
        failures += finish(soak.airflow)
        failures += look_at_overwrite(soak, overwrites)
    failures += [] if chaos.killed else ["nothing was killed: the run shows nothing"]
    say("Killed: " + ", ".join(f"{count} {name}" for name, count in sorted(_kinds(chaos.killed).items())))
    with soak.connect() as (source, target):
        checks = Checks(soak.airflow, source, target)
        failures += checks.failures()
    checks.done["overwrites seen"] = len(overwrites)
    say("Compared with SQL: " + ", ".join(f"{count:,} {name}" for name, count in checks.done.items()))
    lines, grown = meter.growth()
    for line in lines:
        say(line)
    return failures + grown


def look_at_overwrite(soak: Soak, known: set[str]) -> list[str]:
    """Check the rows of the overwrite while it runs."""
    try:
        with soak.connect() as (source, target):
            failure = check_overwrite(source, target, known)
    except psycopg.OperationalError:  # the server restarts
        return []
    return [failure] if failure else []


def finish(airflow: SoakAirflow) -> list[str]:
    """Wait until each DAG has run since now, and no run is left. Return what has not ended in time."""
    since = time.time()
    dags = sorted({run.dag for run in airflow.runs()})
    for dag in dags:
        airflow.trigger(dag)
    waiting = set(dags)
    deadline = time.monotonic() + _LAST_RUNS_SECONDS
    while waiting or any(run.state in ("running", "queued") for run in airflow.runs()):
        for run in airflow.runs():
            if run.dag in waiting and run.state in ("success", "failed") and run.started > since:
                waiting.remove(run.dag)
                airflow.pause(run.dag)
        if time.monotonic() > deadline:
            return [f"{run.dag} {run.id} has not ended" for run in airflow.runs() if run.state != "success"]
        time.sleep(1)
    return [] if len(dags) == DAGS else [f"only {len(dags)} DAGs have run"]


def say(text: str) -> None:
    print(text, flush=True)


def _kinds(killed: list[str]) -> Mapping[str, int]:
    return Counter(name.partition(" ")[0] for name in killed)


def _cluster_connection(cluster: Cluster) -> dict[str, Any]:
    engine = cluster.engine
    return {"conn_type": "burla", "host": engine.url, "login": engine.email, "password": engine.token}


def _sqlalchemy_url(server: PostgresServer) -> str:
    return f"postgresql+psycopg2://{server.user}:{server.password}@{server.host}:{server.port}/postgres"


if __name__ == "__main__":
    sys.exit(main())
