"""``python -m burla_provider.demo``: the example DAG ``order_totals``, on a real table, in a real Airflow."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

from burla_provider.demo.airflow_home import AirflowHome, Session
from burla_provider.demo.cluster import WORKER_NETWORKS, find_bridge, find_login
from burla_provider.demo.console import Step, TaskLog, compare, say, worth_reading
from burla_provider.demo.orders import Totals, create_orders, sum_in_sql
from burla_provider.demo.postgres import EmbeddedPostgres
from burla_provider.exceptions import ClusterNotFoundError, DemoError, EmbeddedPostgresError

_DAG, _TASK = "order_totals", "sum_orders"


@dataclass(frozen=True)
class Place:
    """What depends on where the work is done.

    :param burla: fields of the Airflow connection ``burla_default``.
    :param listen: addresses for PostgreSQL, the first one for Airflow and the workers.
    :param networks: where the workers come from.
    """

    name: str
    burla: dict[str, str]
    listen: tuple[str, ...] = ("127.0.0.1",)
    networks: tuple[str, ...] = ()


def main(arguments: list[str] | None = None) -> int:
    """:return: exit status: 0 when the DAG's totals and SQL's are equal, 1 when not, or when something failed."""
    options = _parse(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit_in_order)
    # A shell that starts us with & has it ignored, and so would all our children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _demo(options)
    except DemoError as error:
        log = options.directory / "airflow" / "demo.log"
        said = [line for line in log.read_text().splitlines() if not line.startswith("{")]
        say("\n".join(["", *said[-10:], f"{error} All that Airflow said is in {log}"]))
        return 1
    except (EmbeddedPostgresError, ClusterNotFoundError) as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        say("\nStopped; nothing is left running.")
        return 130


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m burla_provider.demo",
        description=f"Runs the example DAG {_DAG} on a table of its own, and compares its totals with one SQL query's.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rows", type=_rows, default=1_000_000, help="orders in the table")
    parser.add_argument("--engine", choices=["local", "burla"], default="local", help="where the ranges are worked")
    parser.add_argument("--serve", action="store_true", help="start airflow standalone instead, for a look at the UI")
    parser.add_argument("--directory", type=Path, default=default_directory(), help="of the database and of Airflow")
    return parser.parse_args(arguments)


def _rows(text: str) -> int:
    digits = text.replace("_", "").replace(",", "")
    if not digits.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no number of rows: use 0, 1000000 or 1_000_000")
    return int(digits)


def default_directory() -> Path:
    """Where the demo keeps its things between runs. Root's is one that PostgreSQL's own user can reach."""
    if os.geteuid() == 0:
        return Path("/var/cache/airflow-provider-burla")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airflow-provider-burla"


def _demo(options: argparse.Namespace) -> int:
    place = _choose_place(options.engine)
    directory = options.directory.absolute()
    server = EmbeddedPostgres(directory / "postgres-16", listen=place.listen, networks=place.networks)
    home = AirflowHome(directory / "airflow")
    say(f"The DAG {_DAG} over {options.rows:,} orders, {place.name}\n")
    with ExitStack() as stack:
        with Step("PostgreSQL 16") as line:
            stack.enter_context(server)
            line.done(f"listens on {server.host}:{server.port}")
        home.prepare()
        # Airflow takes its time to load: meanwhile the table is made.
        session = stack.enter_context(home.session(*([] if options.serve else [_DAG])))
        _make_orders(server, options.rows)
        records = session.records()
        _hand_over(records, session, [_postgres_connection(server), place.burla])
        if options.serve:
            return _serve(records, home)
        return report(_follow(records), sum_in_sql(server.conninfo()))


def _choose_place(engine: str) -> Place:
    connection = {"conn_id": "burla_default", "conn_type": "burla"}
    if engine == "local":
        return Place("on this machine's processors", {**connection, "extra": json.dumps({"engine": "local"})})
    login = find_login()
    return Place(
        f"on the Burla cluster at {login.url}",
        {**connection, "host": login.url, "login": login.email, "password": login.token},
        (find_bridge(), "127.0.0.1"),
        WORKER_NETWORKS,
    )


def _make_orders(server: EmbeddedPostgres, rows: int) -> None:
    with Step("Table orders") as line:
        made = create_orders(server.conninfo(), rows, lambda done: line.note(f"{done / rows:.0%}"))
        line.done(f"has {rows:,} rows, with gaps in the ids" + ("" if made else ", from an earlier run"))


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


def _hand_over(records: Iterator[dict[str, Any]], session: Session, connections: list[dict[str, Any]]) -> None:
    with Step("Airflow") as line:
        ready = next((record for record in records if record.get("demo") == "ready"), None)
        if ready is None:
            raise DemoError("Airflow did not come up.")
        session.order(connections)
        line.done(f"{ready['airflow']} is ready, with the connections orders_db and burla_default")


def _follow(records: Iterator[dict[str, Any]]) -> dict[str, Any]:
    with Step("Task runner") as line:
        first = next(filter(worth_reading, records), None)
        if first is None:
            raise DemoError("No task of the DAG was started.")
        line.done(f"has started the task {_TASK}")
    say()
    log = TaskLog()
    for record in chain([first], records):
        if record.get("demo") == "ran" and record["state"] == "success":
            return {**record["values"][_TASK], "ranges": record["reports"][_TASK]["done"], "seconds": log.seconds}
        log.show(record)
    raise DemoError("The DAG did not end well.")


def report(ours: dict[str, Any], theirs: Totals) -> int:
    """Prints the totals of the DAG and of SQL, and as the last line all of it as JSON; the exit status."""
    total = Decimal(ours["total_amount"])
    exact = compare([("orders", ours["row_count"], theirs.row_count), ("total amount", total, theirs.total_amount)])
    say("\nThe totals are equal, to the last digit.\n" if exact else "\nThe totals differ.\n")
    say(
        json.dumps(
            {
                "row_count": ours["row_count"],
                "total_amount": ours["total_amount"],
                "sql_total_amount": str(theirs.total_amount),
                "exact": exact,
                "ranges": ours["ranges"],
                "seconds": round(ours["seconds"], 1),
            }
        )
    )
    return 0 if exact else 1


def _serve(records: Iterator[dict[str, Any]], home: AirflowHome) -> int:
    for _ in records:
        pass
    with home.standalone() as airflow:
        with Step("Airflow's UI") as line:
            if not airflow.wait_until_healthy():
                raise DemoError("Airflow ended.")
            line.done(f"{airflow.url}, everybody is an administrator")
        say("\nThe DAGs run once by themselves, and whenever you trigger them. Ctrl-C ends it all.")
        try:
            return airflow.wait()
        finally:
            say("\nEnding Airflow, which takes a few seconds ...")


def _exit_in_order(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
