"""What the task's log shows."""

from __future__ import annotations

import logging
import time

import pytest

from burla_provider.task.logs import PENDING_SECONDS, Progress, WorkerOutput, format_duration, log_group
from burla_provider.worker.outcome import Failure, Outcome


@pytest.fixture
def output(caplog):
    caplog.set_level(logging.INFO)
    return WorkerOutput(logging.getLogger("task"), 3, "input {}".format)


def test_a_line_of_no_item_is_logged_at_once(output, caplog):
    output.add("Waiting for a node")
    output.add("[3] there are items 0 to 2 only")
    output.add("[x] no number")
    assert caplog.messages == ["Waiting for a node", "[3] there are items 0 to 2 only", "[x] no number"]


def test_an_items_lines_are_logged_together_when_it_ends(output, caplog):
    for line in ("[1] one", "[2] two", "[1] 100 % sure", "[1]"):
        output.add(line)
    assert caplog.messages == []
    output.flush_item(1)
    assert caplog.messages == ["::group::input 1 printed 3 lines", "one", "100 % sure", "", "::endgroup::"]
    output.flush_item(1)
    output.flush_item(0)
    assert len(caplog.messages) == 5


def test_lines_do_not_wait_for_the_end_of_a_long_call(output, caplog):
    output.add("[2] working")
    output.flush_expired(time.monotonic())
    assert caplog.messages == []
    output.flush_expired(time.monotonic() + PENDING_SECONDS)
    assert caplog.messages == ["input 2: working"]


def test_a_line_waits_for_others_of_its_item_however_long_ago_the_last_was_logged(output, caplog, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    output.add("[1] early")
    monkeypatch.setattr(time, "monotonic", lambda: 101.5)
    output.add("[2] late")
    output.flush_expired(102.0)
    assert caplog.messages == ["input 1: early"]


def test_at_the_end_nothing_is_held_back(output, caplog):
    output.add("[2] b")
    output.add("[0] a")
    output.flush()
    assert caplog.messages == ["input 0: a", "input 2: b"]


def test_every_line_of_a_group_and_both_markers_are_records_of_their_own(caplog):
    # Airflow's UI takes the whole of a record for the group's title.
    with caplog.at_level(logging.INFO):
        log_group(logging.getLogger("task"), "Plan", ["key  id", "ranges  7, 100 %"])
    assert caplog.messages == ["::group::Plan", "key  id", "ranges  7, 100 %", "::endgroup::"]


def progress(ranges=10, done=0, failed=0, rows=100):
    progress = Progress(ranges, now=0.0)
    for index in range(done):
        progress.add(Outcome(index, row_count=rows))
    for index in range(failed):
        progress.add(Outcome(index, failure=Failure("ValueError", "")))
    return progress


def test_the_line_says_how_far_the_job_is():
    line = progress(ranges=10, done=4, failed=1).line(now=10.0)
    assert line == "4 of 10 ranges, 400 rows, 40 rows/s, 1 failed, about 10 s left"


def test_the_line_of_a_job_that_counts_no_rows_has_no_rate():
    assert progress(ranges=2, done=2, rows=0).line(now=1.0) == "2 of 2 ranges"


def test_ranges_of_an_earlier_try_do_not_make_the_estimate_better():
    resumed = Progress(10, now=0.0)
    resumed.resume(8)
    resumed.add(Outcome(8))
    assert resumed.line(now=30.0) == "9 of 10 ranges, about 30 s left"


def test_the_wait_for_a_node_does_not_make_the_estimate_worse():
    waited = Progress(10, now=0.0)
    waited.start(now=500.0)
    assert not waited.is_due(now=501.0)
    waited.add(Outcome(0, row_count=100))
    assert waited.line(now=510.0) == "1 of 10 ranges, 100 rows, 10 rows/s, about 90 s left"


def test_the_line_names_what_is_counted():
    assert Progress(3, now=0.0, unit="input").line(now=1.0) == "0 of 3 inputs"


def test_no_line_is_due_at_once():
    assert not Progress(10, now=0.0).is_due(now=1.0)


def test_a_line_is_due_once():
    one = Progress(10, now=0.0)
    assert one.is_due(now=2.0)
    assert not one.is_due(now=2.0)


def test_lines_of_an_hour_fill_no_more_than_a_screen():
    one = Progress(100_000, now=0.0)
    lines = sum(one.is_due(now=second / 10) for second in range(36_000))
    assert 50 < lines < 120


def test_durations_read_as_people_say_them():
    assert [format_duration(seconds) for seconds in (43.2, 700, 12_000)] == ["43 s", "12 min", "3 h 20 min"]
