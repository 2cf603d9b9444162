"""Frames between the task and the client process."""

from __future__ import annotations

import os
import pickle

import pytest

from burla_provider.jobs.client.client import FrameReader, write_frame


def piped(*frames):
    read, write = os.pipe()
    for frame in frames:
        write_frame(write, frame)
    os.close(write)
    with open(read, "rb") as pipe:
        return pipe.read()


def test_frames_come_out_as_they_went_in():
    frames = [("succeeded", 1, b"x" * 10_000), ("done",)]
    assert list(FrameReader().feed(piped(*frames))) == frames


def test_frames_may_arrive_byte_by_byte():
    reader = FrameReader()
    data = piped(("line", "one"), ("line", "two"))
    assert [frame for byte in data for frame in reader.feed(bytes([byte]))] == [("line", "one"), ("line", "two")]


def test_a_frame_cannot_make_the_task_call_anything():
    with pytest.raises(pickle.UnpicklingError, match="names"):
        list(FrameReader().feed(piped(("succeeded", 0, os.system))))
