"""An overwrite on a real cluster: a killed task, its retry, and the rows that are replaced at the end."""

# ruff: noqa: F811 (the fixtures are imported)

from __future__ import annotations

import signal
from typing import Any

from tests.airflow.test_overwrite import LEFT, ask, assert_replaced, operator, scores  # noqa: F401 (a fixture)
from tests.airflow.test_overwrite_runs import contents, hang_late, staged
from tests.cluster.jobs.conftest import Cluster
from tests.support.task_runner import Airflow, run_and_kill
from tests.support.waiting import wait_for


def test_a_retry_replaces_the_rows_of_a_day(on_burla: Airflow, cluster: Cluster, scores: Any) -> None:
    before = contents(scores)
    options: dict[str, Any] = {"retries": 1, "ranges": 20}
    is_begun = lambda: staged(scores) > 2_000  # noqa: E731
    run_and_kill(on_burla, operator(map_row=hang_late, **options), signal.SIGKILL, when=is_begun)
    assert contents(scores) == before
    wait_for(cluster.is_free, 60)
    result = on_burla.run(operator(**options), max_tries=1, try_number=2)
    assert result.state == "success", result.log
    assert (result.value["row_count"], result.value["rows_deleted"], result.value["snapshots"]) == (20_000, 5, 2)
    assert_replaced(scores)
    assert ask(scores, LEFT) == 0


def test_a_row_outside_of_the_condition_changes_nothing(on_burla: Airflow, scores: Any) -> None:
    def move(row: tuple[Any, ...]) -> tuple[Any, ...]:
        return row[0], "2026-11-21" if row[0] == 33 else "2026-11-20", row[1]

    before = contents(scores)
    result = on_burla.run(operator(map_row=move))
    assert "outside of overwrite_where" in str(result.error)
    assert contents(scores) == before
    assert ask(scores, LEFT) == 0
