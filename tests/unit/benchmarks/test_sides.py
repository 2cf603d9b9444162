"""Sides that cannot run, or do not finish, do not affect other results."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psycopg
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import compare, runs, scale
from benchmarks.compare import run_side
from benchmarks.data import Data
from benchmarks.meter import Wire
from benchmarks.runs import SideFailed, find_nodes, running_side


@pytest.fixture
def wire(data: Data) -> Wire:
    """A wire that counts nothing."""
    return Wire(data.server.port)


@pytest.mark.parametrize("docker", [None, "#!/bin/sh\nexit 1\n"])
def test_without_docker_or_its_daemon_no_cluster_is_found(
    docker: str | None, data: Data, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if docker:
        (tmp_path / "docker").write_text(docker)
        (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_nodes() == []
    found = run_side(data, "ours_burla", benchmarks.tables(data), 1, 2, wire)
    assert found == {"missing": "there is no cluster: run `make cluster`", "jobs": {}}


def test_a_dead_side_fails_at_each_run(data: Data, wire: Wire) -> None:
    task = data.task("totals", data.orders())
    with running_side("sql", data, task, wire) as running:
        assert running.run(task)["rows"] == 1_000
        os.kill(running._process.pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(SideFailed, match="ended: "):
                running.run(task)


def test_a_side_that_times_out_keeps_its_start_up_and_its_finished_jobs(
    data: Data, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "TIMEOUT", 15.0)  # long enough for the first job, also on a busy machine
    monkeypatch.setattr(runs, "SHUTDOWN_SECONDS", 0.5)  # the locked query never ends by itself
    tables = benchmarks.tables(data)
    with psycopg.connect(data.server.conninfo()) as connection:
        connection.execute(f"LOCK TABLE {tables['orders']}")
        data.expected("totals", tables["null_keys"])
        found = run_side(data, "sql", tables, 1, 2, wire)
    assert found["missing"] == "not done after 15 s"
    assert found["start_up"] > 0
    assert found["jobs"]["totals null_keys"]["rows"] == 100


def test_after_a_long_job_over_all_orders_the_next_jobs_are_skipped(
    data: Data, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "MAX_JOB_SECONDS", 0)
    jobs = run_side(data, "ours_local", benchmarks.tables(data), 1, 2, wire)["jobs"]
    assert list(jobs) == ["totals null_keys", "totals orders", "checksum orders", "checksum wide"]
    assert ["error" in run for run in jobs.values()] == [False, False, True, True]


def test_without_time_only_steps_with_many_ranges_are_skipped(
    data: Data, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "QUICK_RANGES", 2)
    monkeypatch.setattr(scale, "RANGES", (1, 2, 4))
    with running_side("ours_local", data, data.task("totals", data.orders()), wire) as running:
        *done, skipped = scale.measure_ranges(data, running, "ours_local", deadline=0)
    assert [point["ranges"] for point in done] == [1, 2]
    assert skipped["wanted"] == 4
    assert "missing" in skipped


def test_results_of_other_tables_are_not_kept(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    made = benchmarks.tables(data)
    path = tmp_path / "sides.json"

    def sides_after(tables: dict[str, str]) -> set[str]:
        path.write_text(json.dumps({"rows": data.rows, "tables": tables, "sides": {"ray": {"jobs": {}}}}))
        benchmarks.run_sides(data, ["sql"], 1)
        return set(json.loads(path.read_text())["sides"])

    assert sides_after(made) == {"ray", "sql"}
    assert sides_after(made | {"wide": "wide_2"}) == {"sql"}
