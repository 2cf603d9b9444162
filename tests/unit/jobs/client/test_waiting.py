"""Waiting for a free node."""

from __future__ import annotations

import pytest

from burla_provider.jobs.client.burla_engine import JobRun


# A fake: the real head does not answer so. A proxy with a login page does.
@pytest.mark.parametrize("body", [None, [], {}, {"ready_nodes": []}])
def test_another_answer_than_a_free_node_is_waited_for(body):
    run = JobRun.__new__(JobRun)
    run._url, run._headers = "http://127.0.0.1", {}
    run._request_json = lambda *_: (200, body)
    assert not run._has_ready_node()
