"""Calls that process several items, on the local engine with real processes."""

from __future__ import annotations

import os
import signal
import sys
import time
import weakref

import pytest

from burla_provider.jobs.client.call import BATCH_SECONDS, Call, make_list_call
from burla_provider.jobs.code.pickler import pickle_for_workers
from burla_provider.jobs.job import ItemSucceeded, JobOptions, JobStarted, OutputLine
from burla_provider.jobs.runner import run_job
from tests.unit.jobs.running import KILLED, LOCAL, assert_group_ends, client_of, crashed, lines, make_job, results

COUNT = 1_000
"""With two workers, the first calls process 20 items each."""


class CountedCalls:
    """Records the calls in a directory, and runs ``function`` in each of them."""

    def __init__(self, directory, function=lambda index: None):
        self.directory = directory
        self.function = function

    def __call__(self, index, item):
        raise AssertionError("process is called instead")

    def process(self, index, item):
        with (self.directory / f"worker-{os.getpid()}").open("a") as file:
            file.write(f"{index} ")
        self.function(index)
        return str(index).encode()

    def pause(self):
        with (self.directory / f"worker-{os.getpid()}").open("a") as file:
            file.write("\n")

    @property
    def batches(self):
        """The items of each call that ended."""
        texts = [file.read_text() for file in self.directory.glob("worker-*")]
        return [[int(index) for index in line.split()] for text in texts for line in text.splitlines()]


class Clock:
    """Replaces ``time`` in call.py: however busy the machine is, the calls take only the time that a test adds."""

    def __init__(self):
        self.now = 1_000.0

    def monotonic(self):
        return self.now


class ClockedCalls(CountedCalls):
    """Calls on a clock of their worker.

    :param seconds: what items take on this clock; others take nothing.
    """

    def __init__(self, directory, seconds=()):
        super().__init__(directory)
        self.seconds = dict(seconds)

    def load(self):
        self.clock = sys._getframe(1).f_globals["time"] = Clock()

    def process(self, index, item):
        self.clock.now += self.seconds.get(index, 0)
        return super().process(index, item)


@pytest.fixture
def clock(monkeypatch):
    """The clock of calls in this process."""
    clock = Clock()
    # Not the module's attribute: a test that has unpickled the class in this process gave its methods other globals.
    monkeypatch.setitem(Call.__call__.__globals__, "time", clock)
    return clock


def events_of(function, count=COUNT, workers=2, **options):
    job = make_job(function, range(count), options=JobOptions(max_parallelism=workers), batched_for=workers)
    return run_job(job, LOCAL, **options)


def expected(count=COUNT, without=()):
    return {index: str(index).encode() for index in range(count) if index not in without}


def test_many_items_take_few_calls(tmp_path):
    calls = ClockedCalls(tmp_path)
    assert results(events_of(calls)) == expected()
    sizes = sorted(map(len, calls.batches))
    assert sum(sizes) == COUNT
    assert sizes[-1] == 20
    assert sizes[0] == 1


def test_few_items_per_worker_have_a_call_each(tmp_path):
    calls = CountedCalls(tmp_path)
    assert results(events_of(calls, 99)) == expected(99)
    assert sorted(calls.batches) == [[index] for index in range(99)]


def test_a_job_without_batches_has_a_call_per_item(tmp_path):
    calls = CountedCalls(tmp_path)
    events = run_job(make_job(calls, range(300), options=JobOptions(max_parallelism=2)), LOCAL)
    assert results(events) == expected(300)
    assert sorted(calls.batches) == [[index] for index in range(300)]


def test_an_item_that_fails_in_a_batch_fails_alone(tmp_path):
    def fail(index):
        if index == 7:
            raise ValueError("seven")

    events = list(events_of(CountedCalls(tmp_path, fail)))
    assert results(events) == expected(without=[7])
    assert list(crashed(events)) == [7]
    assert "ValueError: seven" in crashed(events)[7]


def test_only_the_item_of_a_batch_that_kills_every_worker_crashes(tmp_path):
    def die(index):
        if index == 7:
            os.kill(os.getpid(), signal.SIGKILL)

    calls = CountedCalls(tmp_path, die)
    events = list(events_of(calls))
    assert crashed(events) == {7: "Its worker died 3 times (signal 9: killed, usually because memory ran out)."}
    assert results(events) == expected(without=[7])
    assert sum(isinstance(event, ItemSucceeded) for event in events) == COUNT - 1


def test_items_of_a_batch_run_once_although_their_worker_is_killed(tmp_path):
    def die_once(index):
        if index == 7 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    events = list(events_of(CountedCalls(tmp_path, die_once)))
    assert results(events) == expected()
    started = " ".join(file.read_text() for file in tmp_path.glob("worker-*")).split()
    assert sorted(map(int, started)) == sorted([*range(COUNT), 7])
    assert OutputLine(KILLED, index=7) in events


def test_each_result_of_a_batch_arrives_at_once(tmp_path):
    def wait_for_result(index):
        while index == 1 and not (tmp_path / "received").exists():
            time.sleep(0.01)

    for event in events_of(CountedCalls(tmp_path, wait_for_result), workers=1):
        if isinstance(event, ItemSucceeded) and event.index == 0:
            (tmp_path / "received").touch()  # the next item of the same batch waits for it
    assert (tmp_path / "received").exists()


def test_items_behind_one_that_takes_long_have_a_call_each(tmp_path):
    calls = ClockedCalls(tmp_path, {2: BATCH_SECONDS})
    assert results(events_of(calls)) == expected()
    (cut,) = [batch for batch in calls.batches if 2 in batch]
    assert cut == [0, 1, 2]
    assert [[index] for index in range(3, 20)] == sorted(batch for batch in calls.batches if 3 <= batch[0] < 20)


def test_the_lines_of_a_batch_begin_with_their_item(tmp_path):
    def print_line(index):
        if index < 40:
            print("printed by", index)
            print("warning", index, end="", file=sys.stderr)

    printed = lines(events_of(CountedCalls(tmp_path, print_line)))
    wanted = [f"[{n}] {text} {n}" for n in range(40) for text in ("printed by", "warning")]
    assert sorted(printed) == sorted(wanted)


def test_after_a_killed_client_only_missing_items_of_batches_run_again(tmp_path):
    def wait_for_kill(index):
        while index >= 200 and not (tmp_path / "killed").exists():
            time.sleep(0.01)  # otherwise the job may end before the test has read the first results

    calls = CountedCalls(tmp_path, wait_for_kill)
    seen, killed = [], []
    for event in events_of(calls):
        if isinstance(event, ItemSucceeded):
            seen.append(event.index)
            if len(seen) == 50:
                killed.append(client_of())
                killed[0].kill()
                (tmp_path / "killed").touch()
        elif isinstance(event, JobStarted):
            seen.append(None)
    assert seen.count(None) == 2
    assert sorted(index for index in seen if index is not None) == list(range(COUNT))
    assert_group_ends(killed[0].pid)


def test_closing_the_job_ends_the_batches(tmp_path):
    def sleep(index):
        if index == 5:
            time.sleep(600)

    events = events_of(CountedCalls(tmp_path, sleep))
    next(event for event in events if isinstance(event, ItemSucceeded))
    leader = client_of().pid
    events.close()
    assert_group_ends(leader)


@pytest.mark.parametrize("make", [Call, make_list_call])
def test_a_call_ends_before_its_results_become_large(make, clock):
    pickled = pickle_for_workers(lambda index, item: b"x" * 300_000)
    call = make(pickled)
    assert [index for index, *_ in call([(index, b"N.") for index in range(10)])] == [0, 1, 2, 3]


def test_pause_is_called_before_the_last_result_is_sent(tmp_path, clock):
    calls = CountedCalls(tmp_path)
    call = Call(pickle_for_workers(calls))
    texts = [next(tmp_path.iterdir()).read_text() for _ in call([(index, b"N.") for index in range(3)])]
    assert texts == ["0 ", "0 1 ", "0 1 2 \n"]


class Loader:
    def load(self):
        sys._getframe(1).f_globals["time"].now += 1.5 * BATCH_SECONDS

    def close(self):
        raise SystemExit("cannot be closed")

    def __call__(self, index, item):
        return b"done"


def test_what_is_loaded_first_uses_up_no_time_of_the_batch(clock, capsys):
    call = Call(pickle_for_workers(Loader()))
    assert [index for index, *_ in call([(index, b"N.") for index in range(3)])] == [0, 1, 2]
    call.close()
    assert "SystemExit: cannot be closed" in capsys.readouterr().out


def test_a_worker_frees_a_job_whose_call_was_dropped(clock):
    call = make_list_call(pickle_for_workers(Loader()))
    assert len(call([(0, b"N.")])) == 1
    loaded = weakref.ref(call.__closure__[0].cell_contents._loaded[0])
    assert loaded() is not None
    del call
    assert loaded() is None  # without the garbage collector
