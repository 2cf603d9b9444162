"""Runs whole DAGs as ``dag.test()`` does, with Airflow's real metadata database, in a process of its own.

A DAG's tasks go through Airflow's task runner, one after the other; branches, mapping and asset events are real.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DagOutcome:
    """What a DAG's run left behind.

    :param state: of the run.
    :param states: of its tasks; of a mapped one "count_rows" has the list.
    :param values: the tasks' return values; of a mapped one the list.
    :param labels: what the UI calls the mapped instances of a task.
    :param rendered: the tasks' rendered templates.
    :param events: name and extra of the asset events.
    """

    state: str
    states: dict[str, Any]
    values: dict[str, Any]
    labels: dict[str, list[str]]
    rendered: dict[str, dict[str, Any]]
    events: list[tuple[str, dict[str, Any]]]


def run_dags(
    home: Path,
    folders: Sequence[Path],
    dates: Mapping[str, str],
    connections: Sequence[Mapping[str, Any]],
    settings: Mapping[str, str] | None = None,
) -> dict[str, DagOutcome]:
    """Run every DAG of the folders once.

    :param home: an empty directory for Airflow.
    :param dates: logical dates of DAGs that want one.
    :param connections: fields of Airflow's connections.
    :param settings: environment variables.
    """
    # Airflow runs only what it finds in its own folder.
    (home / "dags").mkdir()
    for file in (file for folder in folders for file in folder.glob("*.py")):
        shutil.copy(file, home / "dags")
    order = {"dates": dict(dates), "connections": list(connections)}
    answer = home / "outcomes.json"
    with (home / "log.txt").open("w") as log:
        subprocess.run(
            [sys.executable, "-m", "tests.support.dag_runs", str(answer)],
            input=json.dumps(order),
            text=True,
            stdout=log,
            stderr=log,
            env={**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", **(settings or {})},
            check=False,
        )
    assert answer.exists(), (home / "log.txt").read_text()
    return {dag_id: DagOutcome(**outcome) for dag_id, outcome in json.loads(answer.read_text()).items()}


def main(answer: str) -> None:
    """In the child: read the order from stdin, run, and write the outcomes to ``answer``."""
    order = json.load(sys.stdin)
    from airflow.configuration import conf
    from airflow.utils.db import upgradedb

    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag

    from burla_provider.demo.airflow_session import save_connections

    upgradedb()
    save_connections(order["connections"])
    bag = DagBag(conf.get("core", "dags_folder"))
    assert not bag.import_errors, bag.import_errors
    outcomes = {dag_id: _run(dag, order["dates"].get(dag_id)) for dag_id, dag in bag.dags.items()}
    Path(answer).write_text(json.dumps(outcomes, default=str))


def _run(dag: Any, date: str | None) -> dict[str, Any]:
    import pendulum
    from airflow.models.renderedtifields import RenderedTaskInstanceFields

    run = dag.test(logical_date=pendulum.parse(date) if date else None)
    states: dict[str, Any] = {}
    labels: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    rendered = {}
    results = _results(run)
    for ti in sorted(run.get_task_instances(), key=lambda one: one.map_index):
        value = results.get((ti.task_id, ti.map_index))
        if ti.map_index >= 0:
            states.setdefault(ti.task_id, []).append(str(ti.state))
            values.setdefault(ti.task_id, []).append(value)
            labels.setdefault(ti.task_id, []).append(ti.rendered_map_index)
        else:
            states[ti.task_id] = str(ti.state)
            values[ti.task_id] = value
        rendered[ti.task_id] = RenderedTaskInstanceFields.get_templated_fields(ti)
    return {
        "state": str(run.state),
        "states": states,
        "values": values,
        "labels": labels,
        "rendered": rendered,
        "events": _asset_events(run),
    }


def _results(run: Any) -> dict[tuple[str, int], Any]:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    mine = (XComModel.dag_id == run.dag_id, XComModel.run_id == run.run_id, XComModel.key == "return_value")
    with create_session() as session:
        rows = session.scalars(select(XComModel).where(*mine))
        return {(row.task_id, row.map_index): XComModel.deserialize_value(row) for row in rows}


def _asset_events(run: Any) -> list[tuple[str, dict[str, Any]]]:
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    mine = select(AssetEvent).where(AssetEvent.source_dag_id == run.dag_id, AssetEvent.source_run_id == run.run_id)
    with create_session() as session:
        return [(event.asset.name, event.extra) for event in session.scalars(mine)]


if __name__ == "__main__":
    main(sys.argv[1])
