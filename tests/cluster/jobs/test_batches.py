"""Calls that process several items, on a real cluster."""

from __future__ import annotations

import os
import time

from burla_provider.jobs.client.call import BATCH_SECONDS
from burla_provider.jobs.job import ItemSucceeded, JobStarted
from burla_provider.jobs.runner import run_job
from tests.unit.jobs.running import crashed, lines, make_job, results

COUNT = 400
"""For one worker, the first calls process 16 items each."""


def run_batches(cluster, function):
    return list(run_job(make_job(function, range(COUNT), batched_for=1), cluster.engine))


def jobs(events):
    return [event.job_id for event in events if isinstance(event, JobStarted)]


def expected(without=()):
    return {index: str(index).encode() for index in range(COUNT) if index not in without}


def test_many_items_take_few_calls_and_their_lines_begin_with_them(cluster):
    def work(index, item):
        if index < 20:
            print("item", index)
        return str(index).encode()

    events = run_batches(cluster, work)
    assert results(events) == expected()
    assert sorted(lines(events)) == sorted(f"[{index}] item {index}" for index in range(20))
    # A second job if a worker stalled for longer than a batch may take.
    assert sum(cluster.job(job_id)["input_count"] for job_id in jobs(events)) < COUNT // 3


def test_an_item_that_fails_in_a_batch_fails_alone(cluster):
    def work(index, item):
        if index == 5:
            raise ValueError("five")
        return str(index).encode()

    events = run_batches(cluster, work)
    assert results(events) == expected(without=[5])
    assert "ValueError: five" in crashed(events)[5]


def test_only_the_item_of_a_batch_that_kills_every_worker_crashes(cluster):
    def work(index, item):
        if index == 5:
            os._exit(3)
        return str(index).encode()

    events = run_batches(cluster, work)
    assert results(events) == expected(without=[5])
    assert sum(isinstance(event, ItemSucceeded) for event in events) == COUNT - 1
    assert list(crashed(events)) == [5]
    assert "Its worker died 3 times" in crashed(events)[5]
    assert any("The worker died while it processed 16 items in one call" in line for line in lines(events))


def test_items_behind_one_that_takes_long_are_run_in_another_burla_job(cluster):
    def work(index, item):
        if index == 5:
            time.sleep(BATCH_SECONDS)
        return str(index).encode()

    events = run_batches(cluster, work)
    assert results(events) == expected()
    first, second = jobs(events)
    assert cluster.job(second)["input_count"] == 10
    assert cluster.job(first)["status"] == "completed"
    assert "Calls left 10 items of their batches; running each in a call of its own." in lines(events)
