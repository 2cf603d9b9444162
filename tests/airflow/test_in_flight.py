"""Items in progress, in the log and in the report of real tasks on the local engine."""

from __future__ import annotations

import datetime
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from burla_provider.jobs.job import ItemBegan
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.task.in_flight import InFlight
from burla_provider.task.reporter import KEY
from tests.airflow.conftest import Orders, needs_state_stores
from tests.airflow.time_out import time_out_when_alone
from tests.support.task_runner import Airflow


@contextmanager
def watching(act: Callable[[], Any]) -> Iterator[None]:
    """Call ``act`` in a thread until it returns true, or the block ends."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.1) and not act():
            pass

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def wait_for(path: str, seconds: float = 60.0) -> None:
    """Hang until there is a file."""
    import pathlib
    import time

    end = time.monotonic() + seconds
    while not pathlib.Path(path).exists() and time.monotonic() < end:
        time.sleep(0.05)


@needs_state_stores
def test_a_range_that_hangs_is_named_in_log_and_report(airflow: Airflow, orders: Orders, tmp_path: Path) -> None:
    release = tmp_path / "release"
    place, last = str(release), orders.ask("max(id)")

    def process(rows: Any) -> dict[str, int]:
        import pathlib
        import time

        count = 0
        for (key,) in rows:
            count += 1
            end = time.monotonic() + 200
            while key == last and not pathlib.Path(place).exists() and time.monotonic() < end:
                time.sleep(0.05)
        return {"count": count}

    stored: list[dict[str, Any]] = []

    def act() -> bool:
        part = airflow.state_store.get(KEY, {}).get("in_flight", {})
        if part.get("listed") and part["listed"][0]["is_slow"]:
            stored.append(part)
        if stored and airflow.has_logged("Slow: ") and airflow.has_logged("waiting for 1: "):
            release.touch()
        return release.exists()

    task = BurlaPostgresOperator(
        task_id="t",
        postgres_conn_id="orders_db",
        table="orders",
        columns=["id"],
        process_rows=process,
        key="id",
        ranges=8,
        max_parallelism=2,
    )
    with watching(act):
        result = airflow.run(task)
    assert result.state == "success", result.log
    # The report
    (line,) = stored[0]["listed"]
    assert (line["index"], line["stage"]) == (7, "working")
    assert line["item"].startswith("range 7 (")
    assert "<= id <" in line["item"]
    assert line["ratio"] > 3
    # The log
    name = re.escape(f"{line['item']} on {line['worker']}")
    seconds, *_ = re.findall(rf"Slow: {name} for (\d+) s, [\d,]+ times the median", result.log)
    assert int(seconds) >= 10
    assert "7 of 8 ranges, " in result.log
    assert f"waiting for 1: {line['item']} on {line['worker']} for " in result.log
    assert "about 0 s" not in result.log
    assert "Not finished" not in result.log
    assert result.xcoms[KEY]["in_flight"]["listed"] == []


def test_a_task_that_times_out_names_what_was_running(
    airflow: Airflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time_out_when_alone(monkeypatch, 1, others=1)
    place = str(tmp_path / "never")
    task = BurlaMapOperator(
        task_id="t",
        python_callable=lambda day: wait_for(place) if day == "2026-01-04" else None,
        inputs=["2026-01-03", "2026-01-04", "2026-01-05"],
        max_parallelism=1,
        execution_timeout=datetime.timedelta(minutes=5),
    )
    result = airflow.run(task)
    assert result.state == "failed"
    (line,) = result.xcoms[KEY]["in_flight"]["listed"]
    assert line["item"] == "input 1 ('2026-01-04')"
    assert f"Not finished: input 1 ('2026-01-04') on {line['worker']} for " in result.log


def test_a_job_that_stops_names_what_was_running(
    airflow: Airflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, never = str(tmp_path / "begun"), str(tmp_path / "never")
    begin = InFlight.begin

    def note_begin(self: InFlight, event: ItemBegan) -> None:
        begin(self, event)
        if event.index == 1:
            Path(begun).touch()

    monkeypatch.setattr(InFlight, "begin", note_begin)

    def fail(number: int) -> None:
        wait_for(never if number else begun)
        raise LookupError("no")

    task = BurlaMapOperator(
        task_id="t", python_callable=fail, inputs=[0, 1], max_parallelism=2, on_input_failure="stop"
    )
    result = airflow.run(task)
    assert "Not finished: input 1 (1) on " in result.log
    assert "Not finished: input 0" not in result.log


def test_an_input_whose_worker_died_has_the_workers_name_and_its_time(airflow: Airflow) -> None:
    def die(number: int) -> int:
        import os
        import time

        time.sleep(0.5)
        if number == 1:
            os._exit(7)
        return number

    task = BurlaMapOperator(task_id="t", python_callable=die, inputs=[0, 1, 2], max_parallelism=1)
    result = airflow.run(task)
    report = result.xcoms[KEY]
    (failed,) = [span for span in report["timeline"]["spans"] if not span[5]]
    assert (failed[3], failed[2] >= 0.5) == (1, True)
    assert all(":" in worker["name"] for worker in report["workers"])
    (slowest, *_) = report["slowest"]
    assert slowest["worker"] in {worker["name"] for worker in report["workers"]}
