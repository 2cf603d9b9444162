"""Run a DAG in a child process of the demo, the only one that imports Airflow.

It migrates the metadata database, reads the connections from stdin as one line of JSON, saves them, and runs the DAG.
No password is in an argument or in the environment. Airflow writes its log records to stdout, one JSON object per line.
Messages to the demo are such lines with the key "demo".
"""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG


def main(dag_id: str | None) -> None:
    """Save the connections and run the DAG.

    :param dag_id: None saves the connections only.
    """
    # The default action would end the process before the operator and its client process clean up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    import airflow
    from airflow.utils.db import upgradedb

    upgradedb()
    _send("ready", airflow=airflow.__version__)
    save_connections(json.loads(sys.stdin.readline()))
    if dag_id is not None:
        _run(_load_dag(dag_id))


def save_connections(connections: list[dict[str, Any]]) -> None:
    """Save the connections, each in place of the one with the same id."""
    from airflow.models import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        for fields in connections:
            session.execute(delete(Connection).where(Connection.conn_id == fields["conn_id"]))
            session.add(Connection(**fields))


def _load_dag(dag_id: str) -> DAG:
    from airflow.configuration import conf

    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

    bag = DagBag(conf.get("core", "dags_folder"))
    if dag_id not in bag.dags:
        raise LookupError(f"DAG {dag_id} was not found in {bag.dag_folder}, or its file cannot be imported.")
    return bag.dags[dag_id]


def _run(dag: DAG) -> None:
    from burla_provider.task.reporter import KEY

    run = dag.test()
    tasks = {task.task_id: task for task in run.get_task_instances()}
    values = {task_id: task.xcom_pull(task_ids=task_id) for task_id, task in tasks.items()}
    reports = {task_id: task.xcom_pull(task_ids=task_id, key=KEY) for task_id, task in tasks.items()}
    _send("ran", state=str(run.state), values=values, reports=reports)


def _send(message: str, **details: Any) -> None:
    print(json.dumps({"demo": message, **details}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
