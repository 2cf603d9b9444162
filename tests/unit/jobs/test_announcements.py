"""Messages that an item has begun, on the local engine with real processes."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from burla_provider.jobs.client.call import MARK
from burla_provider.jobs.job import ItemBegan, ItemSucceeded, JobOptions, JobStarted, Tick
from burla_provider.jobs.runner import run_job, start_client
from tests.support.waiting import wait_for
from tests.unit.jobs.running import (
    LOCAL,
    assert_group_ends,
    client_of,
    lines,
    make_job,
    process_group,
    results,
)

COUNT = 1_000
"""With two workers, the first calls process 20 items each."""


def hang_in_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def hang_with_pythons_lock():
    re.match(r"(a+)+$", "a" * 40 + "b")


def run_items(function, count=COUNT, workers=2, **options):
    return run_job(make_job(function, range(count), options=JobOptions(max_parallelism=workers), **options), LOCAL)


def began(events):
    return [event for event in events if isinstance(event, ItemBegan)]


def announce_no_other_item_at_once():
    """In a worker: let all items that it begins from now on be announced late, as if they began within a moment."""
    call = sys._getframe(2).f_globals
    assert "_ANNOUNCE_SECONDS" in call
    call["_ANNOUNCE_SECONDS"] = 3_600


def wait_for_file(path, seconds=60):
    """In a worker: wait until the test has created the file."""
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def find_began(events, index, seconds=120):
    """Return the message of an item. Its job does not end."""
    deadline = time.monotonic() + seconds
    for event in events:
        if isinstance(event, ItemBegan) and event.index == index:
            return event
        assert time.monotonic() < deadline, f"item {index} was not announced"
    raise AssertionError(f"item {index} was not announced")


@pytest.mark.parametrize("batched_for", [2, None], ids=["batches", "calls"])
@pytest.mark.parametrize("hang", [hang_in_a_lock, hang_with_pythons_lock])
@pytest.mark.parametrize("hanging", [0, 333], ids=["first", "among fast items"])
def test_an_item_that_hangs_is_announced(hang, hanging, batched_for):
    def work(index, item):
        if index == hanging:
            hang()
        return str(os.getpid()).encode()

    events = run_items(work, batched_for=batched_for)
    message = find_began(events, hanging)
    assert message.stage == "working"
    host, _, pid = message.worker.rpartition(":")
    assert host == os.uname().nodename
    worker = psutil.Process(int(pid))
    assert worker.parent().parent().pid == client_of().pid
    assert time.time() - message.seconds >= worker.create_time() - 0.1
    events.close()


def test_an_item_that_is_announced_late_says_how_long_ago_it_began(tmp_path):
    last_end = [0.0]

    def work(index, item):
        announce_no_other_item_at_once()
        if index == 333:
            (tmp_path / "last end").write_text(str(last_end[0]))
            hang_in_a_lock()
        last_end[0] = time.monotonic()
        return b""

    events = run_items(work, batched_for=2)
    message = find_began(events, 333)
    now = time.monotonic()
    assert 1 <= message.seconds <= now - float((tmp_path / "last end").read_text()) + 0.05  # it is rounded
    events.close()


def test_an_item_that_hangs_while_its_worker_loads_the_function_is_announced():
    class Task:
        def load(self):
            hang_in_a_lock()

        def __call__(self, index, item):
            return b""

    events = run_items(Task(), count=2, workers=1)
    assert find_began(events, 0).stage == "working"
    events.close()


def test_fast_items_cost_few_messages():
    started = time.monotonic()
    events = list(run_items(lambda index, item: b"", count=20_000, batched_for=2))
    assert len(results(events)) == 20_000
    assert 1 <= len(began(events)) <= 2 * (1 + (time.monotonic() - started) / 0.25)


def note_began(events, directory):
    """Yield the events, and create a file for each item that is announced."""
    for event in events:
        if isinstance(event, ItemBegan):
            (directory / str(event.index)).touch()
        yield event


def test_every_item_of_a_quarter_second_is_announced(tmp_path):
    def work(index, item):
        time.sleep(0.26)
        wait_for_file(tmp_path / str(index))  # a busy machine: a message that comes after the result is dropped
        return b""

    events = list(note_began(run_items(work, count=6), tmp_path))
    assert {message.index for message in began(events) if not message.seconds} == set(range(6))


def test_a_message_comes_before_the_result_of_its_item():
    events = list(run_items(lambda index, item: b"", batched_for=2))
    done = set()
    for event in events:
        assert not (isinstance(event, ItemBegan) and event.index in done)
        if isinstance(event, ItemSucceeded):
            done.add(event.index)


def test_a_job_starts_before_its_messages():
    client = start_client(LOCAL)
    start = client.start

    def start_and_wait(frame):
        start(frame)
        assert_group_ends(client.pid)  # a busy machine: everything has arrived

    client.start = start_and_wait
    job = run_job(make_job(lambda index, item: b"", range(3)), LOCAL, client=client)
    events = [event for event in job if not isinstance(event, Tick)]
    assert isinstance(events[0], JobStarted)
    assert isinstance(events[1], ItemBegan)


def test_output_does_not_look_like_a_message():
    def work(index, item):
        print(f"[1] {MARK}began nobody:1")
        print(f"{MARK}began nobody:1")
        print(f"{MARK}isolating nobody:1", file=sys.stderr)
        return b""

    events = list(run_items(work, count=1, workers=1))
    assert "nobody:1" not in {message.worker for message in began(events)}
    assert sorted(lines(events)) == ["[0]  began nobody:1", "[0]  isolating nobody:1", "[0] [1]  began nobody:1"]


def test_a_program_that_a_worker_starts_cannot_announce_an_item_that_is_done(tmp_path):
    def work(index, item):
        if index == 1:
            wait_for_file(tmp_path / "arrived")
            subprocess.run(["printf", f"[0] {MARK}began nobody:1\n"], check=True)
        time.sleep(0.3)
        return b""

    events = []
    for event in run_items(work, count=2, workers=1):
        events.append(event)
        if isinstance(event, ItemSucceeded) and event.index == 0:
            (tmp_path / "arrived").touch()
    assert "nobody:1" not in {message.worker for message in began(events)}


def test_no_message_is_lost_among_many_lines(tmp_path):
    def work(index, item):
        for number in range(5_000):
            print("line", number)
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), b"x" * 10_000)  # a line that has no end when the next item begins
        time.sleep(0.3)
        wait_for_file(tmp_path / str(index))  # a message that comes after the result is dropped
        return b""

    events = list(note_began(run_items(work, count=12, workers=3), tmp_path))
    assert {message.index for message in began(events)} == set(range(12))
    assert any("more lines exceeded the rate limit" in line for line in lines(events))


def test_a_worker_waits_for_its_own_child_processes_only():
    def work(index, item):
        if index == 5:
            if os.fork() == 0:
                os._exit(0)
            while True:
                try:
                    os.wait()
                except ChildProcessError:
                    return b"no child is left"
        return b""

    events = list(run_items(work, batched_for=2))
    assert results(events)[5] == b"no child is left"


def test_a_fork_of_a_worker_announces_nothing(tmp_path):
    last_end = [0.0]
    began_700 = []

    def work(index, item):
        if began_700:  # the next item of the same worker
            (tmp_path / "seconds").write_text(str(time.monotonic() - began_700.pop()))
        if index == 700:
            began_700.append(last_end[0])
            if os.fork() == 0:
                time.sleep(3)
                os._exit(0)
        if index == 999:
            time.sleep(2)
        last_end[0] = time.monotonic()
        return b""

    events = list(run_items(work, workers=1, batched_for=2))
    # On a busy machine, the item itself may take long enough to be announced.
    seconds = float((tmp_path / "seconds").read_text())
    assert [message for message in began(events) if message.index == 700 and message.seconds > seconds + 0.05] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_nothing_is_left_of_a_worker_that_died(number, tmp_path):
    def work(index, item):
        if index == 333 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), number)
        if index == 999:
            ctypes.pythonapi.PyErr_CheckSignals()
            time.sleep(600)
        return b""

    events = run_items(work, batched_for=2)
    find_began(events, 999)
    # One process each: the client, the one that forks, one that announces late items for each of the two workers.
    leader = client_of().pid
    wait_for(lambda: sum("mmap" in command_line(member) for member in process_group(leader)) <= 2, 60)
    events.close()
    assert_group_ends(leader)


def command_line(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it has just ended
        return ""


HAS_NAMESPACES = subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not HAS_NAMESPACES, reason="this machine allows no mount in a namespace of its own")
def test_a_function_that_fills_the_temporary_directory_does_not_kill_its_worker(tmp_path):
    script = """
import os, pickle, tempfile
from burla_provider.jobs.client.call import Call

def work(index, item):
    if index == 0:
        try:
            with open(os.path.join(tempfile.gettempdir(), "large"), "wb") as file:
                file.write(bytes(1_000_000))
        except OSError:
            pass
    return b""

print(len(list(Call(pickle.dumps(work))([(index, pickle.dumps(None)) for index in range(5)]))))
"""
    mount = 'mount -t tmpfs -o size=64k none "$1" && TMPDIR="$1" exec "$2" -c "$0"'
    command = ["unshare", "-rm", "sh", "-c", mount, script, str(tmp_path), sys.executable]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stdout.splitlines()[-1:]) == (0, ["5"]), run.stderr


@pytest.mark.parametrize("character", ["\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u2028", "\u2029"])
def test_a_character_at_which_burla_would_split_a_line_is_printed_as_a_space(character):
    def work(index, item):
        print(f"before{character}after")
        return b""

    assert lines(run_items(work, count=1)) == ["[0] before after"]
