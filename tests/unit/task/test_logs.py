"""What the task's log shows."""

from __future__ import annotations

import logging
import time

import pytest

from burla_provider.jobs.job import ItemBegan
from burla_provider.task.estimate import Estimate
from burla_provider.task.in_flight import InFlight
from burla_provider.task.logs import PENDING_SECONDS, Progress, SlowItems, WorkerOutput, format_duration, log_group
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


class Job:
    """A job of 10 or more ranges, with its log, on a clock of its own.

    The name of range 1 is "range 1".
    """

    def __init__(self, monkeypatch, caplog, total=40):
        caplog.set_level(logging.INFO)
        self.now = 1000.0
        monkeypatch.setattr(time, "time", lambda: self.now)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        self.messages = caplog
        self.in_flight = InFlight("range {}".format)
        self.estimate = Estimate(total, self.in_flight)
        self.progress = Progress(total, self.now, estimate=self.estimate)
        self.slow = SlowItems(logging.getLogger("task"), self.in_flight)
        self.done = 0

    def begin(self, *indexes, worker="host", **fields):
        for index in indexes:
            self.in_flight.begin(ItemBegan(index, f"{worker}:{index}", **fields))

    def end(self, *indexes, seconds=4.0, failure=None):
        for index in indexes:
            outcome = Outcome(index, seconds=seconds, row_count=None if failure else 100, failure=failure)
            for part in (self.in_flight, self.estimate, self.progress):
                part.add(outcome)

    def run(self, *, until, workers=10):
        """Process ranges of 4 seconds, in rounds."""
        for first in range(0, until, workers):
            indexes = range(first, min(first + workers, until))
            self.begin(*indexes)
            self.now += 4.0
            self.end(*indexes)

    def line(self):
        return self.progress.line(self.now)

    def wait(self, seconds):
        """Check twice per second, and return what was logged: seconds, level and text."""
        logged = []
        for step in range(round(seconds * 2)):
            self.messages.clear()
            self.slow.check()
            logged += [(step / 2, one.levelname, one.getMessage()) for one in self.messages.records]
            self.now += 0.5
        return logged


@pytest.fixture
def job(monkeypatch, caplog):
    return Job(monkeypatch, caplog)


def test_the_line_says_how_far_the_job_is(job):
    job.run(until=20)
    job.end(20, failure=Failure("ValueError", ""))
    job.begin(*range(21, 30))
    assert job.line() == "20 of 40 ranges, 2,000 rows, 250 rows/s, 1 failed, about 8 s left"


def test_the_line_of_a_job_that_counts_no_rows_has_no_rate():
    progress = Progress(2, now=0.0)
    for index in range(2):
        progress.add(Outcome(index))
    assert progress.line(now=1.0) == "2 of 2 ranges"


def test_ranges_of_an_earlier_try_are_done_and_give_no_rate():
    resumed = Progress(10, now=0.0)
    resumed.resume(8)
    resumed.add(Outcome(8, row_count=90))
    assert resumed.line(now=30.0) == "9 of 10 ranges, 90 rows, 3 rows/s"
    assert resumed.processed == 1


def test_the_wait_for_a_node_does_not_make_the_rate_worse():
    waited = Progress(10, now=0.0)
    waited.start(now=500.0)
    assert not waited.is_due(now=501.0)
    waited.add(Outcome(0, row_count=100))
    assert waited.line(now=510.0) == "1 of 10 ranges, 100 rows, 10 rows/s"


def test_before_there_is_an_estimate_the_line_says_what_runs(job):
    job.begin(0, 1, seconds=30.0)
    assert job.line() == "0 of 40 ranges, 2 running, the oldest range 0 on host:0 for 30 s"


def test_at_the_end_the_line_says_what_the_job_waits_for(job):
    job.run(until=38)
    job.begin(38, 39)
    assert job.line().endswith("about 4 s left")
    job.now += 4.0
    waiting = "38 of 40 ranges, 3,800 rows, 190 rows/s, waiting for 2: range 38 on host:38 for 4 s"
    assert job.line() == waiting
    job.now += 39.0
    assert job.line().endswith("waiting for 2: range 38 on host:38 for 43 s, 11 times the median")


def test_about_0_seconds_are_never_left(job):
    job.run(until=39)
    job.begin(39)
    lines = set()
    for _ in range(1200):
        job.now += 0.5
        lines.add(job.line())
    assert not any("about 0 s" in line for line in lines)


def test_a_range_whose_failing_rows_are_searched_for_is_shown_as_such(job):
    job.run(until=39)
    job.begin(39)
    job.now += 7.0
    job.begin(39, stage="isolating")
    assert job.line().endswith("waiting for 1: range 39 on host:39 for 7 s, searching for its failing rows")


def test_a_range_that_hangs_is_named_within_15_seconds_and_less_and_less_often(job):
    job.run(until=10)
    job.begin(17, worker="busy")
    assert job.wait(200) == [
        (13.0, "WARNING", "Slow: range 17 on busy:17 for 13 s, 3 times the median"),
        (27.0, "WARNING", "Slow: range 17 on busy:17 for 27 s, 7 times the median"),
        (55.0, "WARNING", "Slow: range 17 on busy:17 for 55 s, 14 times the median"),
        (111.0, "WARNING", "Slow: range 17 on busy:17 for 2 min, 28 times the median"),
    ]


def test_a_range_of_less_than_ten_seconds_is_not_named_however_short_the_others_are(job):
    job.end(*range(10), seconds=0.01)
    job.begin(17)
    assert job.wait(10) == []
    ((at, level, _),) = job.wait(2)
    assert (at < 2, level) == (True, "WARNING")


def test_while_nothing_has_succeeded_the_oldest_is_named_and_nothing_is_slow(job):
    job.begin(3, 4)
    job.now += 2.0
    job.begin(5)
    assert job.wait(55) == [(29.0, "INFO", "Nothing has succeeded yet. The oldest is range 3 on host:3 for 31 s")]


def test_many_slow_ranges_are_one_line(job):
    job.run(until=10)
    job.begin(*range(10, 40))
    names = "; ".join(f"range {index} on host:{index} for 13 s, 3 times the median" for index in (10, 11, 12))
    assert job.wait(20) == [(13.0, "WARNING", f"Slow: {names}; and 27 more")]


def test_ranges_that_become_slow_one_after_another_do_not_fill_the_log(job):
    job.run(until=10)
    lines = []
    for index in range(10, 40):
        job.begin(index)
        lines += job.wait(1)
    lines += job.wait(30)
    assert 3 <= len(lines) <= 9


def test_a_range_that_has_ended_is_not_named_again_and_its_next_try_is(job):
    job.run(until=10)
    job.begin(17)
    assert len(job.wait(20)) == 1
    job.begin(17, worker="other")
    assert job.wait(12) == []
    ((_, _, text),) = job.wait(2)
    assert text.startswith("Slow: range 17 on other:17 for 13 s")
    job.end(17)
    assert job.wait(100) == []


def test_at_the_end_of_a_job_what_has_not_finished_is_named(job):
    job.run(until=10)
    job.begin(*range(10, 22))
    job.now += 43.0
    job.messages.clear()
    job.slow.finish()
    (record,) = job.messages.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith(
        "Not finished: range 10 on host:10 for 43 s, 11 times the median; range 11 on"
    )
    assert record.getMessage().endswith("; and 2 more")


def test_at_the_end_of_a_job_that_is_done_nothing_is_named(job):
    job.run(until=40)
    job.messages.clear()
    job.slow.finish()
    assert job.messages.records == []
    assert job.line() == "40 of 40 ranges, 4,000 rows, 250 rows/s"


def test_a_long_name_is_cut(monkeypatch, caplog):
    job = Job(monkeypatch, caplog)
    job.in_flight.describe = lambda index: f"range {index} ({'k' * 5000})"
    job.begin(1)
    assert len(job.line()) < 400


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


def test_durations_are_in_words():
    assert [format_duration(seconds) for seconds in (43.2, 700, 12_000)] == ["43 s", "12 min", "3 h 20 min"]
