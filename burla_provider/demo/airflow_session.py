"""Runs in the demo's child process: the only part that has Airflow loaded.

It brings up the metadata database, reads one line of orders, JSON, from stdin, saves the connections (so that no
password is ever in an argument or an environment), and runs the DAG. Airflow writes its log records to stdout, one JSON
object a line; our own answers are such lines with the key "demo".
"""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG


def main(dag_id: str | None) -> None:
    """:param dag_id: the DAG to run; None: the connections are all that is wanted."""
    # Not the default action: the operator, and its client process, get to clean up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    import airflow
    from airflow.utils.db import upgradedb

    upgradedb()
    _answer("ready", airflow=airflow.__version__)
    _save_connections(json.loads(sys.stdin.readline()))
    if dag_id is not None:
        _run(_load(dag_id))


def _save_connections(connections: list[dict[str, Any]]) -> None:
    from airflow.models import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        for fields in connections:
            session.execute(delete(Connection).where(Connection.conn_id == fields["conn_id"]))
            session.add(Connection(**fields))


def _load(dag_id: str) -> DAG:
    from airflow.configuration import conf

    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

    bag = DagBag(conf.get("core", "dags_folder"))
    if dag_id not in bag.dags:
        raise LookupError(f"There is no DAG {dag_id} in {bag.dag_folder}, or its file cannot be imported.")
    return bag.dags[dag_id]


def _run(dag: DAG) -> None:
    from burla_provider.task.report import KEY

    run = dag.test()
    tasks = {task.task_id: task for task in run.get_task_instances()}
    values = {task_id: task.xcom_pull(task_ids=task_id) for task_id, task in tasks.items()}
    reports = {task_id: task.xcom_pull(task_ids=task_id, key=KEY) for task_id, task in tasks.items()}
    _answer("ran", state=str(run.state), values=values, reports=reports)


def _answer(what: str, **details: Any) -> None:
    print(json.dumps({"demo": what, **details}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
