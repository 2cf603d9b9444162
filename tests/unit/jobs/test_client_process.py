"""The client process, its environment and its output."""

from __future__ import annotations

import sys

from burla_provider.jobs.client_process import ClientProcess, LineReader, child_environment


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


def test_the_client_inherits_only_known_variables():
    task = {"PATH": "/bin", "LC_ALL": "C", "https_proxy": "p", "AIRFLOW_HOME": "a", "PGPASSWORD": "s", "ANY_TOKEN": "t"}
    assert child_environment(task) == {
        "PATH": "/bin", "LC_ALL": "C", "https_proxy": "p", "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"
    }  # fmt: skip


def read(*chunks):
    reader = LineReader()
    return [line for chunk in chunks for line in reader.feed(chunk)] + list(reader.end())


def test_lines_are_joined_from_chunks():
    assert read(b"one\ntw", b"o\nthree") == ["one", "two", "three"]


def test_a_character_may_be_split_between_chunks():
    euro = "€".encode()
    assert read(euro[:1], euro[1:] + b"\n") == ["€"]


def test_invalid_utf_8_is_replaced():
    assert read(b"caf\xe9\n") == ["caf�"]


def test_colours_and_control_characters_are_removed():
    assert read(b"\x1b[31mred\x1b[0m\x07 \x1b]0;title\x07text\n") == ["red text"]


def test_only_the_text_after_the_last_carriage_return_is_kept():
    assert read(b"10 %\r50 %\r100 %\r\n") == ["100 %"]


def test_empty_lines_are_skipped():
    assert read(b"\n  \n\nsomething\n\n") == ["something"]


def test_a_very_long_line_is_split():
    assert [len(line) for line in read(b"x" * 1_500, b"x" * 1_500, b"y\n")] == [2_000, 1]


def test_lines_beyond_the_rate_limit_are_dropped_and_counted():
    lines = read(b"drip\n" * 10_000)
    assert lines[:500] == ["drip"] * 500
    assert lines[-1].startswith("... 9,")
