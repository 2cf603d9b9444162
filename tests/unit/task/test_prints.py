from __future__ import annotations

import logging
import time

import pytest

from burla_provider.task.prints import HELD_SECONDS, Prints


@pytest.fixture
def prints(caplog):
    caplog.set_level(logging.INFO)
    return Prints(logging.getLogger("task"), 3, "input {}".format)


def test_a_line_of_no_item_is_logged_at_once(prints, caplog):
    prints.add("Waiting for a node")
    prints.add("[3] there are items 0 to 2 only")
    prints.add("[x] no number")
    assert caplog.messages == ["Waiting for a node", "[3] there are items 0 to 2 only", "[x] no number"]


def test_an_items_lines_are_logged_together_when_it_ends(prints, caplog):
    for line in ("[1] one", "[2] two", "[1] 100 % sure", "[1]"):
        prints.add(line)
    assert caplog.messages == []
    prints.say(1)
    assert caplog.messages == ["::group::input 1 printed 3 lines", "one", "100 % sure", "", "::endgroup::"]
    prints.say(1)
    prints.say(0)
    assert len(caplog.messages) == 5


def test_lines_do_not_wait_for_the_end_of_a_long_call(prints, caplog):
    prints.add("[2] working")
    prints.pulse(time.monotonic())
    assert caplog.messages == []
    prints.pulse(time.monotonic() + HELD_SECONDS)
    assert caplog.messages == ["input 2: working"]


def test_a_line_waits_for_others_of_its_item_however_long_ago_the_last_was_logged(prints, caplog, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    prints.add("[1] early")
    monkeypatch.setattr(time, "monotonic", lambda: 101.5)
    prints.add("[2] late")
    prints.pulse(102.0)
    assert caplog.messages == ["input 1: early"]


def test_at_the_end_nothing_is_held_back(prints, caplog):
    prints.add("[2] b")
    prints.add("[0] a")
    prints.flush()
    assert caplog.messages == ["input 0: a", "input 2: b"]
