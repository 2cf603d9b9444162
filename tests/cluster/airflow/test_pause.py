"""A job on a real cluster waits while the query of ``pause_while`` returns true."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from burla_provider.task import pause
from tests.airflow.test_pause import HELD, PAUSED, SESSIONS, ask, control, gate, short_waits, switch  # noqa: F401 (fixtures)
from tests.airflow.test_transform import assert_written, labels, operator  # noqa: F401 (a fixture)
from tests.cluster.jobs.conftest import Cluster
from tests.support.task_runner import Airflow, run_and_kill
from tests.support.waiting import wait_for

WRITTEN = "SELECT count(*) FROM labels"


def slowly(row: tuple[Any, ...]) -> tuple[Any, ...]:
    if row[0] % 50 == 0:  # the gate of the local tests is a file, which a node does not see
        time.sleep(0.015)
    return row[0], row[1].upper(), row[2] * 2


def pausing() -> Any:
    return operator(write_mode="insert", ledger="runs", map_row=slowly, ranges=20, pause_while=PAUSED)


def test_nothing_is_written_during_a_pause_and_every_row_after_it(on_burla: Airflow, labels: Any, switch: Any) -> None:  # noqa: F811
    switched = switch(WRITTEN, "pause_and_continue", on_burla)
    result = on_burla.run(pausing())
    assert result.value["rows_inserted"] == 20_000, result.log
    assert_written(labels)
    first, second = switched.while_paused
    assert 0 < first == second < 20_000


def test_after_a_long_pause_the_cluster_is_free(
    on_burla: Airflow,
    cluster: Cluster,
    labels: Any,  # noqa: F811
    control: Any,  # noqa: F811
    switch: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pause, "MAX_PAUSE_SECONDS", 0.5)
    switch(WRITTEN, "pause")
    assert on_burla.run(pausing()).state == "up_for_reschedule"
    wait_for(cluster.is_free, 60)
    wait_for(lambda: ask(control, SESSIONS) == 0)
    control.execute("UPDATE job_control SET paused = false")
    result = on_burla.run(pausing())
    assert result.value["rows_inserted"] == 20_000, result.log
    assert_written(labels)


def test_a_task_that_is_killed_in_a_pause_frees_the_cluster(
    on_burla: Airflow,
    cluster: Cluster,
    labels: Any,  # noqa: F811
    control: Any,  # noqa: F811
    switch: Any,  # noqa: F811
) -> None:
    switch(WRITTEN, "pause")
    run_and_kill(on_burla, pausing(), signal.SIGKILL, when=lambda: ask(control, HELD))
    wait_for(cluster.is_free, 60)
    wait_for(lambda: ask(control, HELD) == 0)
    wait_for(lambda: ask(control, SESSIONS) == 0)
    assert 0 < ask(labels, WRITTEN) < 20_000
