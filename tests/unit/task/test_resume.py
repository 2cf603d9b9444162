"""A retry resumes the job of an earlier try only if it would process the same rows in the same way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from burla_provider.task.checkpoint import Checkpoint
from burla_provider.task.resume import JobIdentity, find_earlier
from burla_provider.worker.outcome import Outcome

THIS = JobIdentity("dag/task/run", "abc", has_snapshot=True, state={"oid": "1"})


class Store(dict[str, Any]):
    def set(self, key: str, value: Any) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)


def stored(identity: JobIdentity, *, pages: bool = False) -> Checkpoint:
    """Return what the next try finds after a try that finished one range."""
    store = Store()
    earlier = Checkpoint(store)
    earlier.begin(identity.as_header(pages=pages), b"plan")
    earlier.add(Outcome(3))
    earlier.flush()
    return Checkpoint(store)


@pytest.mark.parametrize(
    ("change", "pages", "resume", "possible_change", "reason"),
    [
        ({}, False, "auto", "", ""),
        ({}, True, "auto", "", ""),
        ({}, False, True, "written to", ""),
        ({"has_snapshot": False}, False, "auto", "written to", ""),
        ({}, False, False, "", "resume=False."),
        ({"run": "dag/task/run/2"}, False, True, "", "the task was cleared since"),
        ({"fingerprint": "abd"}, False, True, "", "its parameters have changed since"),
        ({"has_snapshot": False}, True, True, "", "pages, which can be read in a snapshot only"),
        ({}, True, True, "written to", "pages, and the table may have changed since (written to)"),
        ({}, False, "auto", "written to", "the table may have changed since (written to), and all ranges must be read"),
    ],
)
def test_a_job_is_resumed_only_if_that_is_safe(
    change: dict[str, Any], pages: bool, resume: Any, possible_change: str, reason: str
) -> None:
    asked = []

    def find_possible_change(state: Any) -> str:
        asked.append(state)
        return possible_change

    saved, message = find_earlier(stored(THIS, pages=pages), resume, replace(THIS, **change), find_possible_change)
    assert message.startswith("An earlier try has finished 1 item")
    if reason:
        assert saved is None
        assert reason in message
    else:
        assert saved is not None
        assert (saved.plan, [outcome.index for outcome in saved.outcomes]) == (b"plan", [3])
        assert saved.header["moments"] == 1
        assert "processing only what is missing" in message
    assert all(state == THIS.state for state in asked)


def test_without_an_earlier_try_there_is_nothing_to_say() -> None:
    assert find_earlier(Checkpoint(Store()), "auto", THIS) == (None, "")


def test_a_job_without_a_table_needs_no_table_state() -> None:
    saved, _ = find_earlier(stored(THIS), "auto", THIS)
    assert saved is not None
