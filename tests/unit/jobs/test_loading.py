"""Workers that cannot load the callable, or die while they do so, on the local engine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from burla_provider.exceptions import WorkerSetupError
from burla_provider.jobs.job import ItemCrashed, JobOptions
from burla_provider.jobs.runner import run_job
from tests.unit.jobs.running import LOCAL, crashed, lines, make_job, results, run


class DiesLoading:
    """Kills its process in the first ``deaths`` loads, and leaves a line in a file for each load."""

    def __init__(self, path: Path, deaths: int) -> None:
        self.path = path
        self.deaths = deaths

    def load(self) -> None:
        with self.path.open("ab", buffering=0) as file:
            file.write(b"load\n")
            number = file.tell() // len(b"load\n")  # of this load: others may have begun meanwhile
        if number <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, index: int, item: int) -> bytes:
        if item == -1:
            os._exit(3)
        return b"done"


@pytest.mark.parametrize("batched_for", [None, 2])
def test_a_job_whose_workers_all_die_while_they_load_ends(tmp_path: Path, batched_for: int | None) -> None:
    options = JobOptions(max_parallelism=2)
    job = make_job(DiesLoading(tmp_path / "loads", 1_000_000), range(10_000), batched_for=batched_for, options=options)
    with pytest.raises(WorkerSetupError) as raised:
        list(run_job(job, LOCAL))
    assert str(raised.value) == (
        "A worker could not load what the function needs. 3 worker processes died one after another (signal 9:"
        " killed, usually because memory ran out) while they loaded it. If memory ran out, lower max_parallelism, or"
        " load less."
    )
    assert len((tmp_path / "loads").read_text().split()) <= 4


def test_a_worker_that_dies_while_it_loads_is_replaced(tmp_path: Path) -> None:
    events = run(DiesLoading(tmp_path / "loads", 2), range(500))
    assert results(events) == dict.fromkeys(range(500), b"done")
    assert sum(line.endswith("memory ran out) while it loaded the function.") for line in lines(events)) == 2


def test_an_item_that_kills_every_worker_is_not_an_error_of_loading(tmp_path: Path) -> None:
    events = run(DiesLoading(tmp_path / "loads", 0), [-1] * 5)
    assert crashed(events) == dict.fromkeys(range(5), "Its worker died 3 times (exit status 3).")


class NeedsModule:
    def __reduce__(self) -> tuple[Any, ...]:
        return __import__, ("a_package_nobody_has",)


def test_it_is_known_that_the_callable_cannot_be_unpickled() -> None:
    crashes = [event for event in run(NeedsModule(), range(3)) if isinstance(event, ItemCrashed)]
    assert [event.is_loaded for event in crashes] == [False] * 3
    assert all("No module named 'a_package_nobody_has' - the workers do not have it" in one.error for one in crashes)


def test_an_exception_is_not_an_error_of_loading() -> None:
    [event] = [event for event in run(lambda index, item: 1 / 0, [1]) if isinstance(event, ItemCrashed)]
    assert event.is_loaded
