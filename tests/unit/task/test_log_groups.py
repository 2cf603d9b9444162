"""Groups in the task's log."""

from __future__ import annotations

import logging

import pytest

from burla_provider.task.log_groups import log_group


def test_every_line_of_a_group_and_both_markers_are_records_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    # Airflow's UI takes the whole of a record for the group's title.
    with caplog.at_level(logging.INFO):
        log_group(logging.getLogger("task"), "Plan", ["key  id", "ranges  7, 100 %"])
    assert caplog.messages == ["::group::Plan", "key  id", "ranges  7, 100 %", "::endgroup::"]
