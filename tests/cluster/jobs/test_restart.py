"""A cluster that is restarted while a job runs. airflow/test_trouble.py tests other failures."""

from __future__ import annotations

import time

import pytest

from burla_provider.jobs.job import ItemSucceeded, JobStarted
from burla_provider.jobs.runner import run_job
from tests.unit.jobs.running import make_job, results


def one_second(index, item):
    time.sleep(1)
    return b"done"


@pytest.fixture
def breakable(cluster):
    """Return the cluster, and restart it after the test."""
    yield cluster
    cluster.restart()
    cluster.wait_until_free(180)


def run_and_break(job, engine, break_cluster):
    """Break the cluster after the first results, and return all events of the job."""
    events = []
    for event in run_job(job, engine):
        events.append(event)
        if isinstance(event, ItemSucceeded) and len(results(events)) == 4:
            break_cluster()
    return events


def test_after_a_restart_of_the_cluster_only_missing_items_run_again(breakable):
    events = run_and_break(make_job(one_second, range(12)), breakable.engine, breakable.restart)
    assert results(events) == dict.fromkeys(range(12), b"done")
    assert sum(isinstance(event, JobStarted) for event in events) == 2
