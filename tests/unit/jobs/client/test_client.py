"""Frames, and what a client says that cannot run its job."""

from __future__ import annotations

import os
import pickle
import sys

import pytest

from burla_provider.jobs.client.client import FrameReader, write_frame
from burla_provider.jobs.client_process import ClientProcess, child_environment


def piped(*frames):
    read, write = os.pipe()
    for frame in frames:
        write_frame(write, frame)
    os.close(write)
    with open(read, "rb") as pipe:
        return pipe.read()


def test_frames_come_out_as_they_went_in():
    frames = [("answered", 1, b"x" * 10_000), ("done",)]
    assert list(FrameReader().feed(piped(*frames))) == frames


def test_frames_may_arrive_byte_by_byte():
    reader = FrameReader()
    data = piped(("line", "one"), ("line", "two"))
    assert [frame for byte in data for frame in reader.feed(bytes([byte]))] == [("line", "one"), ("line", "two")]


def test_a_frame_cannot_make_the_task_call_anything():
    with pytest.raises(pickle.UnpicklingError, match="names"):
        list(FrameReader().feed(piped(("answered", 0, os.system))))


def test_another_python_version_is_refused_before_anything_is_unpickled():
    process = ClientProcess(None)
    try:
        process.start({"python": (3, 2)})
        (failed,) = [frame for frame in process.events(1) if isinstance(frame, tuple)]
    finally:
        process.end()
    assert failed[:2] == ("failed", "not installed")
    assert "setup_client" in failed[2]
    assert sys.executable in failed[2]


def test_a_client_inherits_what_it_needs_and_nothing_else():
    task = {"PATH": "/bin", "LC_ALL": "C", "https_proxy": "p", "AIRFLOW_HOME": "a", "PGPASSWORD": "s", "ANY_TOKEN": "t"}
    assert child_environment(task) == {
        "PATH": "/bin", "LC_ALL": "C", "https_proxy": "p", "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"
    }  # fmt: skip
