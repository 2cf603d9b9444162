"""Frames between the task and the client process."""

from __future__ import annotations

import os
import pickle

import pytest

from burla_provider.jobs.client.client import FrameReader, write_frame


def frame_bytes(*frames):
    read, write = os.pipe()
    for frame in frames:
        write_frame(write, frame)
    os.close(write)
    with open(read, "rb") as pipe:
        return pipe.read()


def test_frames_are_read_as_they_were_written():
    frames = [("succeeded", 1, b"x" * 10_000), ("done",)]
    assert list(FrameReader().feed(frame_bytes(*frames))) == frames


def test_frames_may_arrive_byte_by_byte():
    reader = FrameReader()
    data = frame_bytes(("line", "one"), ("line", "two"))
    assert [frame for byte in data for frame in reader.feed(bytes([byte]))] == [("line", "one"), ("line", "two")]


def test_a_frame_cannot_make_the_task_call_anything():
    with pytest.raises(pickle.UnpicklingError, match="names"):
        list(FrameReader().feed(frame_bytes(("succeeded", 0, os.system))))
