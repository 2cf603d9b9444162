"""Processor time and memory of processes that start and end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from benchmarks.processes import ProcessTrees

TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds: the resolution of the kernel's process times. A reading can be one tick too low."""

SPENT = 0.3
"""Seconds of processor time that psutil reports of a child, at least."""

PARENT = f"""
import os, signal, sys, time

def work():
    while time.process_time() < {SPENT + 2 * TICK}:
        pass

def child(then):
    pid = os.fork()
    if not pid:
        work()
        print("worked", flush=True)
        then()
        os._exit(0)
    return pid

{{body}}
print("done", flush=True)
sys.stdin.readline()
"""


@contextmanager
def parent(body: str) -> Iterator[tuple[ProcessTrees, Callable[[], str], Callable[[], None]]]:
    """A process, a function that reads a line of its output, and one that lets it continue."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(body=body)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def go_on() -> None:
            print(file=process.stdin, flush=True)

        try:
            yield ProcessTrees([process.pid]), lambda: process.stdout.readline().strip(), go_on
        finally:
            process.kill()


IGNORED = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
child(lambda: os.read(0, 1))
try:
    os.wait()
except ChildProcessError:
    pass
"""
WAITED_FOR = """
os.waitpid(child(lambda: os.read(0, 1)), 0)
"""
GRANDCHILD = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if not os.fork():
    child(lambda: os.read(0, 1))
    try:
        os.wait()
    finally:
        os._exit(0)
try:
    os.wait()
except ChildProcessError:
    pass
"""
ORPHANED = """
reading, writing = os.pipe()

def outlive():
    os.close(writing)
    os.read(reading, 1)

if not (middle := os.fork()):
    child(outlive)
    os.read(0, 1)
    os._exit(0)
os.waitpid(middle, 0)
"""


@pytest.mark.parametrize("body", [IGNORED, WAITED_FOR])
def test_the_time_of_an_ended_child_is_kept_and_counted_once(body: str) -> None:
    with parent(body) as (trees, read, go_on):
        before = trees.cpu()
        assert read() == "worked"
        living = trees.cpu()
        go_on()
        assert read() == "done"
        ended = trees.cpu()
    assert SPENT <= living - before < 2 * SPENT
    assert living <= ended < before + 2 * SPENT


def test_the_time_of_a_child_between_two_samples_is_in_its_parents_times() -> None:
    with parent("os.waitpid(child(lambda: None), 0)") as (trees, read, _):
        trees.cpu()
        assert (read(), read()) == ("worked", "done")
        assert trees.cpu() >= SPENT


@pytest.mark.parametrize("body", [GRANDCHILD, ORPHANED])
def test_the_time_of_an_ended_grandchild_is_kept(body: str) -> None:
    """One ends with its parent, the other one outlives it."""
    with parent(body) as (trees, read, go_on):
        trees.cpu()
        assert read() == "worked"
        living = trees.cpu()
        go_on()
        assert read() == "done"
        assert trees.cpu() >= living >= SPENT


def test_memory_is_that_of_the_last_sample() -> None:
    with parent("") as (trees, read, _):
        assert read() == "done"
        assert trees.memory() == 0
        trees.cpu()
        assert trees.memory() > 1
