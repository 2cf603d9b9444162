"""What the task's log shows."""

from __future__ import annotations

import logging
import time

import pytest

from burla_provider.task.logs import PENDING_SECONDS, WorkerOutput, log_group


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
