"""Whole tables by key, by pages, and in one query."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import pages, pages_report
from benchmarks.data import Data
from benchmarks.environments import exists
from benchmarks.meter import Wire
from benchmarks.runs import running_side
from benchmarks.sides.ours import make_operator


@pytest.fixture
def wire(data: Data) -> Wire:
    """A wire that counts nothing."""
    return Wire(data.server.port)


@pytest.mark.parametrize(
    ("split", "key", "strategy"),
    [("auto", None, "auto"), ("key", "id", "auto"), ("pages", None, "pages"), ("width", "id", "width")],
)
def test_a_task_names_the_key_if_its_split_needs_it(data: Data, split: str, key: str | None, strategy: str) -> None:
    operator = make_operator(data.task("totals", "orders", split=split))
    assert (operator.key, operator.split) == (key, strategy)


def test_functions_on_arrow_batches_are_exact(data: Data, wire: Wire) -> None:
    tasks = [data.task(job, table) for table in (data.orders(), data.wide()) for job in ("totals", "checksum")]
    with running_side("ours_arrow", data, tasks[0], wire) as running:
        for task in tasks:
            run = running.run(task)
            assert (run["rows"], run["value"]) == data.expected(task.job, task.table)


def test_the_measured_points_of_a_side_are_correct(data: Data, wire: Wire) -> None:
    points = list(pages.run_side(data, "sql", pages.tables(data), wire))
    assert [(point["table"], point["rows"], len(point["all_seconds"])) for point in points] == [
        ("one_row", 1, pages.TIMES),
        ("orders", 1_000, pages.TIMES),
        ("uuids", 500, pages.TIMES),
    ]
    assert list(pages_report.problems({"memory": points, "disk": []})) == []


def test_this_provider_is_measured_by_key_and_by_pages(data: Data, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "TIMES", 1)
    points = list(pages.run_side(data, "ours_local", pages.tables(data), wire))
    assert [(point["job"], point["table"], point["way"]) for point in points] == [
        ("totals", "one_row", "auto"),
        *[("totals", table, way) for table in ("orders", "uuids") for way in ("key", "pages")],
        *[("checksum", "orders", way) for way in ("key", "pages")],
    ]
    assert all(point["work_seconds"] > 0 for point in points)
    assert list(pages_report.problems({"memory": points, "disk": []})) == []


def test_a_run_from_disk_counts_the_pages_that_were_read(data: Data, wire: Wire) -> None:
    with pages.default_buffers(data.server):
        point = pages.run_cold(data, "sql", "auto", data.orders(), wire)
    assert point["rows"] == 1_000
    assert point["pages_read"] == point["pages"] > 0


def test_plain_queries_are_measured_in_three_ways(data: Data) -> None:
    assert min(pages.measure_queries(data, data.orders()).values()) > 0


@pytest.mark.skipif(not exists("tools"), reason="run `make bench` first")
def test_duckdb_is_exact(data: Data, wire: Wire) -> None:
    tables = [data.orders(), data.wide(), data.null_keys(), data.uuids()]
    tasks = [data.task(job, table) for table in tables for job in ("totals", "checksum")]
    with running_side("duckdb", data, tasks[0], wire) as running:
        for task in tasks:
            run = running.run(task)
            assert (run["rows"], run["value"]) == data.expected(task.job, task.table)


def run(seconds: float, side: str, way: str = "auto", **options: Any) -> dict[str, Any]:
    right = {"rows": 10, "value": "1.5", "expected_rows": 10, "expected_value": "1.5", "cpu_database": 2.0}
    return {"side": side, "way": way, "job": "totals", "table": "orders", "seconds": seconds} | right | options


QUERIES = {"parallel": 2.0, "serial": 4.0, "halves": 3.0}


def test_a_line_has_both_ways_and_the_peers() -> None:
    points = [run(2, "sql"), run(5, "ours_local", "key"), run(4, "ours_local", "pages"), run(3, "duckdb")]
    assert list(pages_report.in_memory(points))[2:] == ["| totals of 10 orders | local | 5.00 | 4.00 | 2.00 | 3.00 |"]


def test_what_was_not_measured_or_is_wrong_is_listed() -> None:
    memory = [{"side": "ours_burla", "missing": "there is no cluster"}, run(1, "duckdb", value="1.49")]
    first, _, second, _ = pages_report.problems({"memory": memory, "disk": []})
    assert first == "> **Not measured**: **this provider, real Burla**: there is no cluster."
    assert second == "> **Wrong result** of DuckDB: **no**: 1.49 instead of 1.5."


@pytest.mark.parametrize(("seconds", "words"), [(4.0, "is within"), (4.2, "is more than")])
def test_the_limit_is_one_and_a_half_queries_and_the_start(seconds: float, words: str) -> None:
    points = [run(seconds, "ours_local", "pages"), run(1, "ours_local", table="one_row")]
    *_, last = pages_report.breakdown({"memory": points, "queries": QUERIES})
    assert last.startswith(f"- local: {seconds:.2f} s {words} 1.5 times one query plus a job over one row (4.00 s)")


def test_the_parts_of_a_slow_job_add_up() -> None:
    slow = run(6, "ours_local", "pages", ranges_seconds=3.5)
    explained = pages_report.compare_with_limit(slow, 1.0, QUERIES)
    assert "the start, which a job over one row needs too 1.00 s" in explained
    assert "two plain queries 3.00 s" in explained
    assert "in addition to these queries 0.50 s; all else: planning, and waiting" in explained
    assert "after the last range 1.50 s" in explained
