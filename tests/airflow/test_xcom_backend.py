"""Airflow's UI reads XComs in its database, whatever backend stores them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.providers.common.io.xcom import backend
from airflow.sdk.execution_time import comms, task_runner

from burla_provider.operators.map import BurlaMapOperator
from tests.support.task_runner import Airflow


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let Airflow's own backend store all XComs in a folder."""
    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", tmp_path.as_uri())
    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD", "0")
    caches = (backend._get_base_path, backend._get_threshold)
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setattr(task_runner, "XCom", backend.XComObjectStorageBackend)
    yield tmp_path
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("number", [1, 0], ids=["success", "failure"])
def test_what_the_ui_shows_is_in_the_database(airflow: Airflow, stored: Path, number: int) -> None:
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=lambda divisor: 1 / divisor, inputs=[number]))
    assert result.xcoms["burla_report"]["status"]["state"] == result.state, result.log
    pushed = [message for message in airflow.messages if isinstance(message, comms.SetXCom)]
    links = {message.value for message in pushed if message.key == "burla_job_url"}
    assert links == {""}  # on the local engine, also while the task runs
    # The result is for other tasks, which read it through the backend.
    assert str(result.value).startswith(stored.as_uri()) == (result.state == "success")
