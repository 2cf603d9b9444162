"""A cluster that is restarted in the middle of a job. See airflow/test_trouble.py for what else may befall one."""

from __future__ import annotations

import time

import pytest

from burla_provider.jobs.client.http_json import request_json
from burla_provider.jobs.job import ItemSucceeded, JobStarted
from burla_provider.jobs.runner import run_job
from tests.cluster.jobs.conftest import TOKEN, URL
from tests.unit.jobs.running import answers, make_job


def one_second(index, item):
    time.sleep(1)
    return b"done"


def restart():
    status, _ = request_json("POST", f"{URL}/v1/cluster/restart", {"Authorization": f"Bearer {TOKEN}"}, 60)
    assert status == 200


@pytest.fixture
def breakable(cluster):
    """The cluster, made whole again afterwards."""
    yield cluster
    restart()
    cluster.wait_until_free(180)


def run_and_break(job, engine, breaking):
    """Break the cluster after the first answers; all events of the job."""
    events = []
    for event in run_job(job, engine):
        events.append(event)
        if isinstance(event, ItemSucceeded) and len(answers(events)) == 4:
            breaking()
    return events


def test_a_restart_of_the_cluster_costs_only_what_was_not_answered_yet(breakable):
    events = run_and_break(make_job(one_second, range(12)), breakable.engine, restart)
    assert answers(events) == dict.fromkeys(range(12), b"done")
    assert sum(isinstance(event, JobStarted) for event in events) == 2
