"""``python -m burla_provider.demo``: run the example DAG ``order_totals`` on a real table in a real Airflow."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import psycopg

from burla_provider.demo.airflow_home import AirflowHome, Session
from burla_provider.demo.cluster import WORKER_NETWORKS, find_bridge, find_login
from burla_provider.demo.console import Step, TaskLog, compare_totals, relevant_text, show, show_next_steps
from burla_provider.demo.orders import Totals, create_orders, query_totals
from burla_provider.demo.postgres import EmbeddedPostgres
from burla_provider.exceptions import ClusterNotFoundError, DemoError, EmbeddedPostgresError
from burla_provider.jobs.job import ENGINES

_DAG, _TASK = "order_totals", "sum_orders"


@dataclass(frozen=True)
class EngineSettings:
    """Settings that depend on the engine.

    :param description: where the ranges are processed.
    :param connection: fields of the Airflow connection ``burla_default``.
    :param listen: addresses that PostgreSQL listens on. Airflow and the workers use the first one.
    :param networks: networks of the workers.
    """

    description: str
    connection: dict[str, Any] = field(repr=False)
    listen: tuple[str, ...] = ("127.0.0.1",)
    networks: tuple[str, ...] = ()


def main(arguments: list[str] | None = None) -> int:
    """Run the demo.

    :returns: the exit status: 0 if the DAG and SQL have the same totals, 1 if they differ or something failed.
    """
    options = _parse(arguments)
    for signal_number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, _exit_on_signal)
    # A process that a shell starts with & ignores SIGINT, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # libpq's variables, such as PGSSLMODE, are about servers of the user.
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    try:
        return _demo(options)
    except DemoError as error:
        log = options.directory / "airflow" / "demo.log"
        output = [line for line in log.read_text().splitlines() if not line.startswith("{")]
        show("\n".join(["", *output[-10:], f"{error} The complete output of Airflow is in {log}"]))
        return 1
    except (EmbeddedPostgresError, ClusterNotFoundError) as error:
        show(f"\n{error}")
        return 1
    except (OSError, psycopg.Error) as error:  # the disk is full, or the directory cannot be written
        show(f"\n{error}\nAll files of the demo are in {options.directory}. --directory chooses another one.")
        return 1
    except KeyboardInterrupt:
        show("\nStopped. No process is left running.")
        return 130


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m burla_provider.demo",
        description=f"Run the example DAG {_DAG} on a generated table and compare its totals with SQL's.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rows", type=_rows, default=1_000_000, help="number of orders in the table")
    parser.add_argument("--engine", choices=list(ENGINES), default="local", help="where the ranges are processed")
    parser.add_argument("--serve", action="store_true", help="start airflow standalone instead, to open the UI")
    parser.add_argument(
        "--directory", type=Path, default=default_directory(), help="directory of the database and of Airflow"
    )
    return parser.parse_args(arguments)


def _rows(text: str) -> int:
    digits = text.replace("_", "").replace(",", "")
    if not digits.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number of rows, such as 0, 1000000 or 1_000_000, got {text!r}")
    return int(digits)


def default_directory() -> Path:
    """Return the directory that keeps the database and Airflow between runs.

    Root's directory is public, because PostgreSQL runs as another user.
    """
    if os.geteuid() == 0:
        return Path("/var/cache/airflow-provider-burla")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airflow-provider-burla"


def _demo(options: argparse.Namespace) -> int:
    settings = engine_settings(options.engine)
    directory = options.directory.absolute()
    server = EmbeddedPostgres(directory / "postgres-16", listen=settings.listen, networks=settings.networks)
    home = AirflowHome(directory / "airflow")
    show(f"DAG {_DAG} with {options.rows:,} orders, {settings.description}\n")
    with ExitStack() as stack:
        with Step("PostgreSQL 16") as step:
            stack.enter_context(server)
            step.finish(f"listens on {server.host}:{server.port}")
        home.prepare()
        # Airflow takes seconds to load. The table is created in the meantime.
        session = stack.enter_context(home.session(*([] if options.serve else [_DAG])))
        _create_orders(server, options.rows)
        records = session.records()
        _send_connections(records, session, [_postgres_connection(server), settings.connection])
        if options.serve:
            return _serve(records, home)
        return report(_follow_task(records), query_totals(server.conninfo()))


def engine_settings(engine: str) -> EngineSettings:
    """Return the settings for an engine.

    :raises ClusterNotFoundError: if the engine is "burla", and no cluster runs on this machine.
    """
    # Airflow 3.3 cannot test a connection without a port.
    connection = {"conn_id": "burla_default", "conn_type": "burla", "port": 443}
    if engine == "local":
        return EngineSettings(
            "on the processors of this machine", {**connection, "extra": json.dumps({"engine": "local"})}
        )
    login = find_login()
    return EngineSettings(
        f"on the Burla cluster at {login.url}",
        {
            **connection,
            "host": login.url,
            "port": urlsplit(login.url).port or 443,
            "login": login.email,
            "password": login.token,
        },
        (find_bridge(), "127.0.0.1"),
        WORKER_NETWORKS,
    )


def _create_orders(server: EmbeddedPostgres, rows: int) -> None:
    with Step("Table orders") as step:
        created = create_orders(server.conninfo(), rows, lambda done: step.update(f"{done / rows:.0%}"))
        step.finish(f"has {rows:,} rows, with gaps in the ids" + ("" if created else ", from an earlier run"))


def _postgres_connection(server: EmbeddedPostgres) -> dict[str, Any]:
    return {
        "conn_id": "orders_db",
        "conn_type": "postgres",
        "host": server.host,
        "port": server.port,
        "login": server.user,
        "password": server.password,
        "schema": "postgres",
    }


def _send_connections(records: Iterator[dict[str, Any]], session: Session, connections: list[dict[str, Any]]) -> None:
    with Step("Airflow") as step:
        ready = next((record for record in records if record.get("demo") == "ready"), None)
        if ready is None:
            raise DemoError("Airflow did not start.")
        session.send_connections(connections)
        step.finish(f"{ready['airflow']} is ready, with the connections orders_db and burla_default")


def _follow_task(records: Iterator[dict[str, Any]]) -> dict[str, Any]:
    with Step("Task runner") as step:
        first = next(filter(relevant_text, records), None)
        if first is None:
            raise DemoError("No task of the DAG was started.")
        step.finish(f"started the task {_TASK}")
    show()
    log = TaskLog()
    for record in chain([first], records):
        if record.get("demo") == "ran" and record["state"] == "success":
            return {**record["values"][_TASK], "ranges": record["reports"][_TASK]["done"], "seconds": log.seconds}
        log.show(record)
    raise DemoError("The DAG run failed.")


def report(dag_totals: dict[str, Any], sql_totals: Totals) -> int:
    """Print the totals of the DAG and of SQL, what to do next, and the totals as one line of JSON.

    :return: the exit status.
    """
    exact = compare_totals(
        [
            ("orders", dag_totals["row_count"], sql_totals.row_count),
            ("total amount", Decimal(dag_totals["total_amount"]), sql_totals.total_amount),
        ]
    )
    show("\nThe totals are equal, to the last digit.\n" if exact else "\nThe totals differ.\n")
    if exact:
        show_next_steps()
        show()
    show(
        json.dumps(
            {
                "row_count": dag_totals["row_count"],
                "total_amount": dag_totals["total_amount"],
                "sql_total_amount": str(sql_totals.total_amount),
                "exact": exact,
                "ranges": dag_totals["ranges"],
                "seconds": round(dag_totals["seconds"], 1),
            }
        )
    )
    return 0 if exact else 1


def _serve(records: Iterator[dict[str, Any]], home: AirflowHome) -> int:
    for _ in records:
        pass
    with home.standalone() as airflow:
        with Step("Airflow's UI") as step:
            if not airflow.wait_until_healthy():
                raise DemoError("Airflow stopped before it was ready.")
            step.finish(f"{airflow.url}, every user is an administrator")
        show("\nEach DAG runs once, and again when you trigger it. Press Ctrl-C to stop.")
        try:
            return airflow.wait()
        finally:
            show("\nStopping Airflow, which takes a few seconds ...")


def _exit_on_signal(signal_number: int, _: FrameType | None) -> None:
    sys.exit(128 + signal_number)


if __name__ == "__main__":
    sys.exit(main())
