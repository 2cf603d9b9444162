"""The estimate of the end, in simulated jobs whose end is known."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Sequence

import pytest

from burla_provider.jobs.job import ItemBegan
from burla_provider.task.estimate import Estimate
from burla_provider.task.in_flight import InFlight
from burla_provider.worker.outcome import Outcome

START = 1_000_000.0


class Job:
    """A simulated job. Each worker takes the next item as soon as it is free.

    :param seconds: of each item, in the order in which they start.
    :param workers: when each worker starts, in seconds after the job.
    :param pauses: seconds between two items of a worker.
    """

    def __init__(
        self,
        seconds: Sequence[float],
        workers: Sequence[float],
        expected_rows: Sequence[int | None] | None = None,
        pauses: float = 0.0,
    ) -> None:
        self.seconds = seconds
        free = [(START + start, number) for number, start in enumerate(workers)]
        heapq.heapify(free)
        self.events: list[tuple[float, int, int, int]] = []
        for index, duration in enumerate(seconds):
            begin, worker = heapq.heappop(free)
            end = begin + duration
            self.events += [(begin, 1, index, worker), (end, 0, index, worker)]
            heapq.heappush(free, (end + pauses, worker))
        self.events.sort()
        self.end = self.events[-1][0]
        self.in_flight = InFlight(str)
        self.estimate = Estimate(len(seconds), self.in_flight, expected_rows)
        self.estimate.start(now=START)

    def run(self, step: float) -> Iterator[tuple[float, float, float | None]]:
        """Yield the share of the work that is done, the seconds that are really left, and the estimate."""
        total = sum(self.seconds)
        done, now = 0.0, START
        events = iter([*self.events, (self.end + 1, 2, 0, 0)])
        at, kind, index, worker = next(events)
        while now < self.end:
            while at <= now:
                name = f"host:{worker}"
                if kind == 1:
                    self.in_flight.begin(ItemBegan(index, name), now=at)
                else:
                    done += self.seconds[index]
                    outcome = Outcome(index, seconds=self.seconds[index], worker=name)
                    self.in_flight.add(outcome)
                    self.estimate.add(outcome, now=at)
                at, kind, index, worker = next(events)
            yield done / total, self.end - now, self.estimate.seconds_left(now)
            now += step


def worst_error(job: Job, *, from_share: float = 0.2, at_least: float) -> float:
    """Return the largest factor between estimate and truth, after a share of the work.

    :param at_least: no comparison when fewer seconds are left.
    """
    compared = [(left, estimate) for share, left, estimate in job.run(0.5) if share >= from_share and left >= at_least]
    assert len(compared) > 20
    known = [(left, estimate) for left, estimate in compared if estimate is not None]
    assert len(known) >= 0.95 * len(compared)
    return max(max(left / estimate, estimate / left) for left, estimate in known)


def drawn(count: int, draw: Callable[[random.Random], float], seed: int) -> list[float]:
    generator = random.Random(seed)
    return [draw(generator) for _ in range(count)]


def skewed_rows(seed: int) -> list[int]:
    """A few ranges have 40 times the rows of the others. The largest come first, as the task starts them."""
    return sorted(
        (int(100_000 + 4_000_000 * size) for size in drawn(300, lambda r: r.random() ** 6, seed)), reverse=True
    )


TEN = [0.0] * 10
SLOW_START = [0.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0]


def test_equal_ranges() -> None:
    assert worst_error(Job([4.0] * 400, TEN), at_least=1.0) < 1.1


def test_few_ranges_whose_last_round_is_incomplete() -> None:
    assert worst_error(Job([10.0] * 41, TEN), at_least=1.0) < 1.1


@pytest.mark.parametrize("seed", range(5))
def test_uneven_ranges(seed: int) -> None:
    job = Job(drawn(400, lambda r: r.uniform(2.0, 6.0), seed), TEN)
    assert worst_error(job, at_least=16.0) < 1.5


@pytest.mark.parametrize("seed", range(5))
def test_very_uneven_ranges(seed: int) -> None:
    job = Job(drawn(1000, lambda r: r.expovariate(0.25), seed), TEN)
    assert worst_error(job, at_least=60.0) < 1.6


@pytest.mark.parametrize("seed", range(5))
def test_skewed_ranges_of_known_size_largest_first(seed: int) -> None:
    rows = skewed_rows(seed)
    job = Job([count / 100_000 for count in rows], TEN, rows)
    assert worst_error(job, at_least=2.0) < 1.1


@pytest.mark.parametrize("seed", range(5))
def test_each_range_takes_a_second_more_than_its_rows(seed: int) -> None:
    rows = skewed_rows(seed)
    job = Job([1.0 + count / 100_000 for count in rows], TEN, rows)
    assert worst_error(job, at_least=5.0) < 2.0


@pytest.mark.parametrize("seconds", [4.0, 0.5])
def test_workers_that_start_one_after_another(seconds: float) -> None:
    job = Job([seconds] * int(1600 / seconds), SLOW_START)
    assert worst_error(job, at_least=3.0) < 1.5


def test_time_between_two_ranges_of_a_worker() -> None:
    assert worst_error(Job([1.0] * 1600, TEN, pauses=1.0), at_least=5.0) < 1.4


def test_items_that_take_less_time_than_their_way_to_a_worker() -> None:
    assert worst_error(Job([0.00001] * 20_000, TEN[:2], pauses=0.003), at_least=5.0) < 1.2


def test_a_database_that_becomes_three_times_slower() -> None:
    job = Job([2.0] * 400 + [6.0] * 1200, TEN)
    assert worst_error(job, from_share=0.35, at_least=10.0) < 1.6


def test_a_hanging_range_neither_spoils_nor_ends_the_estimate() -> None:
    job = Job([4.0] * 50 + [600.0] + [4.0] * 400, TEN)
    rest = [(START + 200.0 - (job.end - left), estimate) for _, left, estimate in job.run(0.5)]
    others = [(left, estimate) for left, estimate in rest if 5.0 < left < 160.0]
    assert all(estimate is not None and 0.8 < estimate / left < 1.25 for left, estimate in others)
    # Then only the hanging range is left: it has no estimate.
    assert {estimate for left, estimate in rest if left < -10.0} == {None}


def test_nothing_is_estimated_before_each_worker_has_ended_a_range() -> None:
    job = Job([8.0 + number / 10 for number in range(10)] * 10, TEN)
    estimates = [(80.0 - left, estimate) for _, left, estimate in job.run(0.5)]
    first = next(number for number, (_, estimate) in enumerate(estimates) if estimate is not None)
    assert first * 0.5 >= 8.0


def test_nothing_is_estimated_within_the_first_seconds() -> None:
    job = Job([0.01] * 20_000, TEN)
    estimates = [estimate for _, _, estimate in job.run(0.5)]
    assert estimates[:6] == [None] * 6
    assert estimates[7] == pytest.approx(16.5, rel=0.1)


def test_the_first_seconds_begin_with_the_first_item_however_long_the_workers_take_to_start() -> None:
    job = Job([0.01] * 20_000, [60.0] * 10)
    estimates = [estimate for _, _, estimate in job.run(0.5)]
    assert estimates[:126] == [None] * 126
    assert estimates[127] == pytest.approx(16.5, rel=0.1)


def test_a_trial_has_no_estimate_and_the_rest_starts_with_its_pace() -> None:
    in_flight = InFlight(str)
    estimate = Estimate(103, in_flight)
    estimate.start(is_trial=True, now=START)
    for index in range(3):
        in_flight.begin(ItemBegan(index, f"trial:{index}"), now=START)
    for index in range(3):
        end(in_flight, estimate, index, 10.0, at=START + 10.0)
    assert estimate.seconds_left(START + 10.0) is None
    in_flight.restart()
    estimate.start(now=START + 60.0)
    for index in range(3, 13):
        in_flight.begin(ItemBegan(index, f"host:{index}"), now=START + 70.0)
    assert estimate.seconds_left(START + 79.0) is None
    for index in range(3, 13):
        end(in_flight, estimate, index, 10.0, at=START + 80.0)
        in_flight.begin(ItemBegan(index + 10, f"host:{index}"), now=START + 80.0)
    assert estimate.seconds_left(START + 80.0) == pytest.approx(90.0)


def test_ranges_of_an_earlier_try_are_not_left() -> None:
    in_flight = InFlight(str)
    estimate = Estimate(10, in_flight, [100, 100, 100, 100, 100, 100, 1000, 100, 100, 100])
    estimate.resume(Outcome(6, row_count=1000))
    estimate.start(now=START)
    end(in_flight, estimate, 0, 10.0, at=START + 10.0)
    assert estimate.seconds_left(START + 10.0) == pytest.approx(80.0)


@pytest.mark.parametrize("earlier", [1, 5, 9])
def test_a_job_ends_when_the_items_that_an_earlier_try_has_left_have_ended(earlier: int) -> None:
    in_flight = InFlight(str)
    estimate = Estimate(10, in_flight)
    for index in range(earlier):
        estimate.resume(Outcome(index))
    estimate.start(now=START)
    for number, index in enumerate(range(earlier, 10), 1):
        end(in_flight, estimate, index, 10.0, at=START + 10.0 * number)
        left = 10.0 * (9 - index)
        assert estimate.seconds_left(START + 10.0 * number) == pytest.approx(left)


def test_a_range_with_an_unknown_number_of_rows_takes_as_long_as_the_mean() -> None:
    in_flight = InFlight(str)
    estimate = Estimate(4, in_flight, [40, None, 100, 10])
    estimate.start(now=START)
    end(in_flight, estimate, 0, 20.0, at=START + 20.0)
    assert estimate.seconds_left(START + 20.0) == pytest.approx((50 + 100 + 10) / 2)


def test_without_messages_from_workers_the_estimate_is_used_up_too() -> None:
    in_flight = InFlight(str)
    estimate = Estimate(10, in_flight)
    estimate.start(now=START)
    for index in range(9):
        end(in_flight, estimate, index, 2.0, at=START + 2.0 * (index + 1))
    assert estimate.seconds_left(START + 18.0) == pytest.approx(2.0)
    assert estimate.seconds_left(START + 21.0) is None


def test_nothing_is_left_at_the_end() -> None:
    in_flight = InFlight(str)
    estimate = Estimate(1, in_flight)
    end(in_flight, estimate, 0, 0.0, at=START)
    assert estimate.seconds_left(START) == 0.0


def end(in_flight: InFlight, estimate: Estimate, index: int, seconds: float, at: float) -> None:
    worker = in_flight.complete(Outcome(index)).worker
    outcome = Outcome(index, seconds=seconds, worker=worker)
    in_flight.add(outcome)
    estimate.add(outcome, now=at)
