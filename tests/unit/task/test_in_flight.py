"""Which items are being processed, where and since when."""

from __future__ import annotations

import json
import random
import statistics
import time

from burla_provider.jobs.job import ItemBegan
from burla_provider.task.in_flight import InFlight
from burla_provider.worker.outcome import Failure, Outcome

NOW = 1_000_000.0


def in_flight(*began: tuple[int, str, float], durations: tuple[float, ...] = ()) -> InFlight:
    """Return the items that began: number, worker, and how long ago."""
    seen = InFlight("range {}".format)
    for number, seconds in enumerate(durations):
        seen.add(Outcome(1000 + number, seconds=seconds, worker="other:1"))
    for index, worker, seconds in began:
        seen.begin(ItemBegan(index, worker, seconds), now=NOW)
    return seen


def indexes(seen: InFlight) -> list[int]:
    return [item.index for item in seen.running()]


def test_the_oldest_item_comes_first_with_its_worker_and_its_begin() -> None:
    seen = in_flight((1, "a:1", 5.0), (2, "b:2", 40.0), durations=(10.0, 10.0, 30.0)).as_dict(NOW)
    assert seen == {
        "count": 2,
        "median": 10.0,
        "listed": [
            {
                "index": 2,
                "item": "range 2",
                "worker": "b:2",
                "since": NOW - 40.0,
                "stage": "working",
                "ratio": 4.0,
                "is_slow": True,
            },
            {
                "index": 1,
                "item": "range 1",
                "worker": "a:1",
                "since": NOW - 5.0,
                "stage": "working",
                "ratio": 0.5,
                "is_slow": False,
            },
        ],
    }


def test_before_an_item_has_succeeded_nothing_is_slow() -> None:
    seen = in_flight((1, "a:1", 600.0))
    seen.add(Outcome(7, seconds=0.1, failure=Failure("ValueError", "x")))
    part = seen.as_dict(NOW)
    assert part["median"] is None
    assert (part["listed"][0]["ratio"], part["listed"][0]["is_slow"]) == (None, False)


def test_a_short_item_is_not_slow_however_short_the_others_are() -> None:
    assert not in_flight((1, "a:1", 4.9), durations=(0.0,)).as_dict(NOW)["listed"][0]["is_slow"]
    assert in_flight((1, "a:1", 5.1), durations=(0.0,)).as_dict(NOW)["listed"][0]["is_slow"]


def test_an_outcome_ends_its_item_only() -> None:
    # The outcome of the worker's earlier item may arrive after the begin of its next one.
    seen = in_flight((1, "a:1", 9.0), (2, "a:1", 1.0), (3, "b:1", 5.0))
    seen.add(Outcome(1, seconds=8.0, worker="a:1"))
    assert indexes(seen) == [3, 2]
    seen.add(Outcome(2, seconds=8.0, worker="a:1"))
    assert indexes(seen) == [3]


def test_a_worker_processes_one_item_at_a_time() -> None:
    assert indexes(in_flight((1, "a:1", 9.0), (2, "a:1", 1.0))) == [2]


def test_a_message_that_its_outcome_has_overtaken_changes_nothing() -> None:
    seen = in_flight((1, "a:1", 9.0))
    seen.add(Outcome(2, seconds=0.1, worker="a:1"))
    seen.begin(ItemBegan(2, "a:1", 0.5), now=NOW)
    assert indexes(seen) == [1]


def test_an_item_that_another_worker_begins_again_is_listed_once() -> None:
    seen = in_flight((1, "dead:1", 9.0), (1, "b:2", 1.0))
    (item,) = seen.running()
    assert (item.worker, item.since) == ("b:2", NOW - 1.0)
    seen.begin(ItemBegan(3, "dead:1"), now=NOW)
    assert indexes(seen) == [1, 3]


def test_the_next_stage_keeps_the_begin() -> None:
    seen = in_flight((1, "a:1", 9.0))
    seen.begin(ItemBegan(1, "a:1", 0.0, "isolating"), now=NOW)
    (line,) = seen.as_dict(NOW)["listed"]
    assert (line["stage"], line["since"]) == ("isolating", NOW - 9.0)


def test_another_job_forgets_the_items_and_keeps_the_median() -> None:
    seen = in_flight((1, "a:1", 9.0), durations=(2.0,))
    seen.restart()
    assert seen.as_dict(NOW) == {"count": 0, "median": 2.0, "listed": []}
    unknown = Outcome(1, failure=Failure("WorkerError", "exit code 137"))
    assert seen.complete(unknown, now=NOW) == unknown
    seen.begin(ItemBegan(1, "b:1"), now=NOW)
    assert indexes(seen) == [1]


def test_the_outcome_of_a_worker_that_died_gets_its_worker_and_its_time() -> None:
    seen = in_flight((1, "a:1", 9.0))
    died = Outcome(1, attempts=3, failure=Failure("WorkerError", "exit code 137"))
    done = seen.complete(died, now=NOW)
    assert (done.worker, done.started, done.seconds, done.attempts) == ("a:1", NOW - 9.0, 9.0, 3)


def test_the_time_of_an_item_ends_when_its_worker_begins_another_one() -> None:
    seen = in_flight((1, "a:1", 9.0), (2, "a:1", 4.0))
    done = seen.complete(Outcome(1, failure=Failure("WorkerError", "raised")), now=NOW)
    assert (done.worker, done.seconds) == ("a:1", 5.0)


def test_an_outcome_that_has_a_worker_or_whose_begin_is_unknown_stays_as_it_is() -> None:
    seen = in_flight((1, "a:1", 9.0))
    known, unknown = Outcome(1, seconds=3.0, worker="a:1"), Outcome(2, failure=Failure("WorkerError", ""))
    assert seen.complete(known) is known
    assert seen.complete(unknown) is unknown


def test_the_median_is_the_one_of_all_durations() -> None:
    generator = random.Random(7)
    seen = InFlight(str)
    durations = []
    for index in range(500):
        durations.append(generator.expovariate(1.0))
        seen.add(Outcome(index, seconds=durations[-1]))
        assert seen.median == statistics.median_low(durations)


def test_only_the_oldest_are_listed_with_short_texts() -> None:
    seen = InFlight(lambda index: f"range {index} ({'ü' * 5000})")
    for index in range(2000):
        seen.begin(ItemBegan(index, f"{'w' * 200}:{index}", index), now=NOW)
    part = seen.as_dict(NOW)
    assert part["count"] == 2000
    assert [line["index"] for line in part["listed"]] == list(range(1999, 1987, -1))
    assert len(json.dumps(part)) < 4_000


def test_a_hundred_thousand_items_cost_little() -> None:
    seen = InFlight(str)
    durations = [index % 977 / 10 for index in range(100_000)]
    started = time.process_time()
    for index, seconds in enumerate(durations):
        seen.begin(ItemBegan(index, f"w:{index % 100}"), now=NOW + index)
        seen.add(Outcome(index, seconds=seconds))
    part = seen.as_dict(NOW)
    assert time.process_time() - started < 10.0  # 100 microseconds each
    assert part == {"count": 0, "median": round(statistics.median_low(durations), 3), "listed": []}
