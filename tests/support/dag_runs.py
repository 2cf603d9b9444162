"""Run whole DAGs as ``dag.test()`` does, in a separate process, with Airflow's real metadata database.

A DAG's tasks go through Airflow's task runner, one after the other; branches, mapping and asset events are real. A
partition's run is created as the scheduler creates it, and a rollup's run by the scheduler itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

DEFAULTS = {
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",  # a paused DAG is not started by assets
}

AIRFLOW = tuple(map(int, version("apache-airflow").split(".")[:2]))
CAN_ASK = AIRFLOW >= (3, 3)


@dataclass(frozen=True)
class DagOutcome:
    """What a DAG's run left behind.

    :param state: of the run.
    :param states: of its tasks; of a mapped one "count_rows" has the list.
    :param values: the tasks' return values; of a mapped one the list.
    :param labels: what the UI calls the mapped instances of a task.
    :param rendered: the tasks' rendered templates.
    :param events: name and extra of the asset events.
    :param edges: pairs of tasks, the second of which runs after the first.
    """

    state: str
    states: dict[str, Any]
    values: dict[str, Any]
    labels: dict[str, list[str]]
    rendered: dict[str, dict[str, Any]]
    events: list[tuple[str, dict[str, Any]]]
    edges: list[list[str]]


def run_dags(
    home: Path,
    folders: Sequence[Path],
    dates: Mapping[str, str],
    connections: Sequence[Mapping[str, Any]],
    settings: Mapping[str, str] | None = None,
    partitions: Mapping[str, Sequence[str]] | None = None,
    rollups: Mapping[str, Sequence[Any]] | None = None,
    answers: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, DagOutcome]:
    """Run every DAG of the folders once, unless it needs a newer Airflow.

    :param home: an empty directory for Airflow.
    :param dates: logical dates of DAGs that want one.
    :param connections: fields of Airflow's connections.
    :param settings: environment variables.
    :param partitions: days that a DAG is run for, one run each; the outcome has the name "DAG day".
    :param rollups: of a DAG that is started by partitions: an asset's name, and partition keys that have no orders.
    :param answers: of a DAG that asks a person: the task, and the answer. Before Airflow 3.3, ``dag.test`` cannot run
        such a task, and marks it as successful.
    """
    # Airflow runs only what it finds in its own folder.
    (home / "dags").mkdir()
    for file in (file for folder in folders for file in folder.glob("*.py")):
        if not needs_newer_airflow(file):
            shutil.copy(file, home / "dags")
    order = {
        "dates": dict(dates),
        "connections": list(connections),
        "partitions": dict(partitions or {}),
        "rollups": dict(rollups or {}),
        "answers": dict(answers or {}),
    }
    answer = home / "outcomes.json"
    with (home / "log.txt").open("w") as log:
        subprocess.run(
            [sys.executable, "-m", "tests.support.dag_runs", str(answer)],
            input=json.dumps(order),
            text=True,
            stdout=log,
            stderr=log,
            env={**os.environ, "AIRFLOW_HOME": str(home), **DEFAULTS, **(settings or {})},
            check=False,
        )
    assert answer.exists(), (home / "log.txt").read_text()
    return {dag_id: DagOutcome(**outcome) for dag_id, outcome in json.loads(answer.read_text()).items()}


def needs_newer_airflow(file: Path) -> str | None:
    """Why the DAG file cannot be imported here; None: it can."""
    needed = re.search(r"^Needs Airflow (\d+)\.(\d+)\.$", file.read_text(), re.M)
    if needed is None or tuple(map(int, needed.groups())) <= AIRFLOW:
        return None
    return f"{file.name} needs Airflow {needed[1]}.{needed[2]}"


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
    outcomes = {}
    for dag_id, dag in sorted(bag.dags.items(), key=lambda item: item[0] in order["rollups"]):
        if dag_id in order["partitions"]:
            for day in order["partitions"][dag_id]:
                with _created_by_scheduler(day):
                    outcomes[f"{dag_id} {day}"] = _run(dag, None)
        elif dag_id in order["rollups"]:
            with _created_for_rollup(dag_id, *order["rollups"][dag_id]):
                outcomes[dag_id] = _run(dag, None)
        elif dag_id in order["answers"]:
            task_id, choice = order["answers"][dag_id]
            with _person(choice):
                outcomes[dag_id] = _run(dag, None, None if CAN_ASK else task_id)
        else:
            outcomes[dag_id] = _run(dag, order["dates"].get(dag_id))
    Path(answer).write_text(json.dumps(outcomes, default=str))


@contextmanager
def _created_by_scheduler(day: str) -> Iterator[None]:
    """``dag.test`` creates runs without a partition."""
    import pendulum
    from airflow.models import dagrun

    create = dagrun.get_or_create_dagrun

    def create_partition(*, session: Any, **options: Any) -> Any:
        run = create(session=session, **options)
        run.partition_key = day
        run.partition_date = pendulum.parse(day)
        session.commit()
        return run

    with mock.patch.object(dagrun, "get_or_create_dagrun", create_partition):
        yield


@contextmanager
def _created_for_rollup(dag_id: str, asset: str, empty: Sequence[str]) -> Iterator[None]:
    """``dag.test`` takes the run that the scheduler creates when all partitions are there."""
    from airflow.assets.manager import asset_manager
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.models import dagrun
    from airflow.models.asset import AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    scheduler = SchedulerJobRunner(Job())

    def take(*, dag: Any, session: Any, **_: Any) -> Any:
        assert scheduler._create_dagruns_for_partitioned_asset_dags(session) == {dag_id}
        run = session.scalars(select(dagrun.DagRun).where(dagrun.DagRun.dag_id == dag_id)).one()
        run.dag = dag
        run.state = "running"
        session.commit()
        return run

    with create_session() as session:
        assert not scheduler._create_dagruns_for_partitioned_asset_dags(session)
        model = session.scalars(select(AssetModel).where(AssetModel.name == asset)).one()
        extra = {"row_count": 0, "total_amount": None}
        for day in empty:
            asset_manager.register_asset_change(asset=model, extra=extra, partition_key=day, session=session)
    with mock.patch.object(dagrun, "get_or_create_dagrun", take):
        yield


@contextmanager
def _person(choice: str) -> Iterator[None]:
    """Who answers the question of a run, as the API does with the answer from the UI."""
    ended = threading.Event()

    def answer() -> None:
        while not ended.wait(0.5):
            _answer_questions(choice)

    person = threading.Thread(target=answer)
    person.start()
    try:
        yield
    finally:
        ended.set()
        person.join()


def _answer_questions(choice: str) -> None:
    from airflow._shared.timezones import timezone
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import handle_event_submit
    from airflow.triggers.base import TriggerEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        for detail in session.scalars(select(HITLDetail).where(HITLDetail.responded_at.is_(None))):
            ti = session.get(TaskInstance, detail.ti_id)
            if ti.state != "awaiting_input":
                continue
            detail.responded_at = timezone.utcnow()
            detail.chosen_options = [choice]
            detail.responded_by = {"id": "1", "name": "a person"}
            event = TriggerEvent(detail.as_resume_event_payload())
            handle_event_submit(event, task_instance=ti, session=session)


def _run(dag: Any, date: str | None, mark_success: str | None = None) -> dict[str, Any]:
    import pendulum
    from airflow.models.renderedtifields import RenderedTaskInstanceFields

    run = dag.test(logical_date=pendulum.parse(date) if date else None, mark_success_pattern=mark_success)
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
        "edges": sorted([task.task_id, after] for task in dag.tasks for after in task.downstream_task_ids),
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
