"""What the workers did, and when."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from burla_provider.task.time_bins import TimeBins
from burla_provider.task.timeline import Timeline
from burla_provider.worker.outcome import Failure, Outcome

FAILED = Failure("ValueError", "no")
START = 1_000_000.0


def make(*outcomes: Outcome, **options: Any) -> dict[str, Any]:
    timeline = Timeline("range {}".format)
    for outcome in outcomes:
        timeline.add(outcome)
    return timeline.as_dict(**options)


def outcome(index: int, **changes: Any) -> Outcome:
    """Four workers on two nodes process 100 rows in half a second each."""
    worker = index % 4
    fields = {
        "row_count": 100,
        "seconds": 0.5,
        "started": START + index // 4 * 0.5,
        "worker": f"node-{worker // 2}:{worker}",
    }
    return Outcome(index, **{**fields, **changes})


def test_each_range_is_a_span_with_its_worker_time_rows_and_group() -> None:
    part = make(
        outcome(0),
        outcome(1, failure=FAILED, row_count=None),
        outcome(4, failure=FAILED, row_count=None, seconds=0.25),
        group_of={1: 3, 4: -1}.__getitem__,
    )["timeline"]
    assert part["kind"] == "ranges"
    assert (part["start"], part["seconds"]) == (START, 0.75)
    assert part["spans"] == [[0, 0.0, 0.5, 0, 100, 1, -1], [1, 0.0, 0.5, 1, 0, 0, 3], [0, 0.5, 0.25, 4, 0, 0, -1]]
    assert part["labels"] == {"0": "range 0", "1": "range 1", "4": "range 4"}


def test_without_groups_no_span_has_one() -> None:
    assert make(outcome(1, failure=FAILED))["timeline"]["spans"][0][-1] == -1


def test_the_end_of_the_trial_is_the_end_of_its_last_range() -> None:
    timeline = Timeline(str)
    assert timeline.as_dict()["timeline"]["trial_until"] is None
    for index in range(3):
        timeline.add(outcome(index, seconds=index + 1))
    timeline.end_trial()
    timeline.add(outcome(40))
    assert timeline.as_dict()["timeline"]["trial_until"] == START + 3.0


def test_a_trial_whose_workers_are_unknown_has_no_end() -> None:
    timeline = Timeline(str)
    timeline.add(Outcome(0, failure=FAILED))
    timeline.end_trial()
    assert timeline.as_dict()["timeline"]["trial_until"] is None


def test_a_worker_without_a_name_has_no_lane() -> None:
    seen = make(outcome(0), Outcome(1, failure=FAILED))
    assert [worker["name"] for worker in seen["workers"]] == ["node-0:0"]
    assert (seen["worker_count"], len(seen["timeline"]["spans"])) == (1, 1)


def test_nodes_are_the_hosts_of_the_workers() -> None:
    seen = make(*(outcome(index) for index in range(8)))
    assert seen["worker_count"] == 4


def test_the_slowest_come_first_with_their_workers() -> None:
    seen = make(*(outcome(index, seconds=index / 10) for index in range(50)))["slowest"]
    assert [line["index"] for line in seen] == list(range(49, 37, -1))
    assert seen[0] == {"index": 49, "item": "range 49", "seconds": 4.9, "rows": 100, "worker": "node-0:1"}


def test_a_failed_range_is_not_among_the_slowest_and_does_not_count_for_the_spread() -> None:
    seen = make(outcome(0), outcome(1), outcome(2, seconds=9.0, failure=FAILED))
    assert [line["index"] for line in seen["slowest"]] == [1, 0]
    assert seen["timeline"]["spread"] == {"rows": [100] * 4, "seconds": [0.5] * 4}


def test_the_spread_is_minimum_median_95th_percentile_and_maximum() -> None:
    seen = make(*(outcome(index, row_count=index, seconds=100.0 - index) for index in range(101)))
    assert seen["timeline"]["spread"] == {"rows": [0, 50, 95, 100], "seconds": [0.0, 50.0, 95.0, 100.0]}


def test_bins_hold_every_range_once() -> None:
    count = 5000
    seen = make(*(outcome(index, failure=FAILED if index % 1000 == 7 else None) for index in range(count)))["timeline"]
    assert (seen["kind"], "spans" in seen, "labels" in seen) == ("bins", False, False)
    assert [sum(cell[column] for cell in seen["bins"]) for column in (2, 3, 4)] == [count, count * 100, 5]
    assert {cell[0] for cell in seen["bins"]} == {0, 1, 2, 3}
    assert all(0 <= cell[1] < seen["bin_count"] for cell in seen["bins"])
    assert len(seen["bins"]) <= 800
    width = seen["seconds"] / seen["bin_count"]
    # Each range is in the bin of its end: the last ones end after 625 seconds.
    last = max(cell[1] for cell in seen["bins"])
    assert seen["start"] + last * width <= START + 625.0 <= seen["start"] + (last + 1) * width


def test_activity_is_rows_and_busy_workers_over_time() -> None:
    # Two workers for 10 seconds, then one of them for another 10 seconds at twice the speed.
    seen = make(
        Outcome(0, row_count=1000, started=START, seconds=10.0, worker="a:1"),
        Outcome(1, row_count=1000, started=START, seconds=10.0, worker="a:2"),
        Outcome(2, row_count=4000, started=START + 10.0, seconds=10.0, worker="a:1"),
    )
    part = seen["activity"]
    assert (part["start"], len(part["rows"]), len(part["busy"])) == (START, 120, 120)
    assert part["width"] == pytest.approx(20 / 120, rel=0.01)
    assert sum(part["rows"]) == 6000
    assert sum(part["rows"][:60]) == pytest.approx(2000, rel=0.02)
    assert part["busy"][1:58] == pytest.approx([2.0] * 57, abs=0.01)
    assert part["busy"][62:119] == pytest.approx([1.0] * 57, abs=0.01)
    assert seen["utilization"] == 0.75


def test_a_short_job_has_fewer_bins() -> None:
    part = make(outcome(0), outcome(4))["activity"]
    assert part == {"start": START, "width": 0.1, "rows": [20] * 10, "busy": [1.0] * 10}


def test_ranges_in_flight_make_their_workers_busy() -> None:
    done = [Outcome(0, started=START, seconds=5.0, worker="a:1"), Outcome(1, started=START, seconds=10.0, worker="a:2")]
    # The clock of the first worker is not this one: it has not begun before its last end.
    running = [("a:1", START + 3.0), ("a:3", START + 9.0), ("a:2", START + 10.0)]
    busy = make(*done, running=running)["activity"]["busy"]
    assert busy[1:88] == pytest.approx([2.0] * 87, abs=0.01)
    assert busy[91:] == pytest.approx([3.0] * 9, abs=0.01)


def test_a_range_that_hangs_keeps_its_worker_busy_until_now() -> None:
    done = [outcome(0, seconds=10.0, worker="a:1"), outcome(1, started=START, seconds=10.0, worker="b:2")]
    seen = make(*done, running=[("c:3", START)], now=START + 40.0)
    assert (seen["worker_count"], len(seen["workers"])) == (3, 2)
    activity = seen["activity"]
    assert activity["width"] * len(activity["busy"]) == pytest.approx(40.0, rel=0.01)
    assert activity["busy"][1:29] == pytest.approx([3.0] * 28, abs=0.01)
    assert activity["busy"][31:] == pytest.approx([1.0] * 89, abs=0.01)
    assert sum(activity["rows"]) == 200
    assert seen["utilization"] == 0.5  # two workers have been waiting for 30 of 40 seconds


def test_before_the_first_range_there_is_no_activity() -> None:
    seen = make()
    assert (seen["activity"], seen["utilization"], seen["timeline"]["spans"]) == (None, None, [])
    assert make(Outcome(0, failure=FAILED))["activity"] is None
    assert make(outcome(0, seconds=0.0))["utilization"] is None


def test_a_worker_that_died_and_the_one_that_replaced_it_are_one_place() -> None:
    seen = make(
        Outcome(0, started=START, seconds=5.0, worker="a:1", failure=FAILED),
        Outcome(1, started=START + 5.0, seconds=5.0, worker="a:2"),
        Outcome(2, started=START, seconds=10.0, worker="a:3"),
    )
    assert (seen["worker_count"], seen["utilization"]) == (3, 1.0)


def test_workers_that_wait_lower_the_utilization() -> None:
    seen = make(
        Outcome(0, started=START, seconds=10.0, worker="a:1"),
        Outcome(1, started=START, seconds=2.0, worker="a:2"),
        Outcome(2, started=START + 8.0, seconds=2.0, worker="a:2"),
    )
    assert seen["utilization"] == 0.7


def test_a_worker_that_has_finished_nothing_counts() -> None:
    timeline = Timeline(str)
    timeline.add(Outcome(0, row_count=100, started=START, seconds=10.0, worker="a:1"))
    seen = timeline.as_dict(running=[("a:2", START + 5.0)], now=START + 10.0)
    assert (seen["utilization"], seen["worker_count"]) == (0.75, 2)


def test_times_of_a_long_job_are_rounded_to_what_a_screen_shows() -> None:
    seen = make(outcome(0, seconds=0.1234), outcome(4000, seconds=0.1234))["timeline"]
    assert seen["spans"] == [[0, 0.0, 0.1, 0, 100, 1, -1], [0, 500.0, 0.1, 4000, 100, 1, -1]]


def test_long_names_are_cut_to_a_common_size() -> None:
    timeline = Timeline(lambda index: f"range {index} ({'é' * 500})")
    for index in range(300):
        timeline.add(outcome(index, worker=f"{'w' * 300}:{index % 48}", row_count=10**9, seconds=1234.5))
    seen = timeline.as_dict()
    assert len(json.dumps(seen)) < 32_000
    labels = seen["timeline"]["labels"]
    assert labels["7"].startswith("range 7 (")
    assert len({len(json.dumps(labels[str(index)])) for index in range(100, 300)}) == 1


def test_names_of_usual_length_are_not_cut() -> None:
    names = [f"range {index} ({index * 1000} <= id < {index * 1000 + 1000})" for index in range(300)]
    timeline = Timeline(names.__getitem__)
    for index in range(300):
        timeline.add(outcome(index))
    assert list(timeline.as_dict()["timeline"]["labels"].values()) == names


def test_a_report_of_a_hundred_thousand_ranges_is_quick() -> None:
    timeline = Timeline(str)
    for index in range(100_000):
        timeline.add(outcome(index, worker=f"a:{index % 100}", started=START + index // 100))
    started = time.process_time()
    seen = timeline.as_dict()
    assert time.process_time() - started < 0.5
    assert len(json.dumps(seen)) < 40_000
    assert sum(seen["activity"]["rows"]) == 100_000 * 100


def test_bins_become_longer_and_keep_their_sums() -> None:
    bins = TimeBins(10)
    for second in range(1000):
        bins.add(second % 2, START - second, START - second + 0.5, (1, second))
    assert bins.count * 2 <= 10
    assert sum(values[0] for values in bins.cells.values()) == pytest.approx(1000)
    assert sum(values[1] for values in bins.cells.values()) == pytest.approx(499_500)
    assert sum(sum(one) for one in bins.resample(0, START - 998, START + 0.5, 7)) == pytest.approx(500 + 249_500)
