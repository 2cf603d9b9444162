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


def test_a_client_inherits_what_it_needs_and_nothing_else():
    task = {"PATH": "/bin", "LC_ALL": "C", "https_proxy": "p", "AIRFLOW_HOME": "a", "PGPASSWORD": "s", "ANY_TOKEN": "t"}
    assert child_environment(task) == {
        "PATH": "/bin", "LC_ALL": "C", "https_proxy": "p", "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"
    }  # fmt: skip


def read(*chunks):
    reader = LineReader()
    return [line for chunk in chunks for line in reader.feed(chunk)] + list(reader.end())


def test_lines_are_put_together_from_pieces():
    assert read(b"one\ntw", b"o\nthree") == ["one", "two", "three"]


def test_a_character_may_be_cut_in_two():
    euro = "€".encode()
    assert read(euro[:1], euro[1:] + b"\n") == ["€"]


def test_what_is_not_utf_8_is_shown_as_such():
    assert read(b"caf\xe9\n") == ["caf�"]


def test_colours_and_control_characters_are_taken_out():
    assert read(b"\x1b[31mred\x1b[0m\x07 \x1b]0;title\x07text\n") == ["red text"]


def test_of_a_line_that_is_written_over_the_last_state_is_shown():
    assert read(b"10 %\r50 %\r100 %\r\n") == ["100 %"]


def test_empty_lines_are_left_out():
    assert read(b"\n  \n\nsomething\n\n") == ["something"]


def test_an_endless_line_is_cut():
    assert [len(line) for line in read(b"x" * 1_500, b"x" * 1_500, b"y\n")] == [2_000, 1]


def test_a_flood_is_stemmed_and_its_rest_counted():
    said = read(b"drip\n" * 10_000)
    assert said[:500] == ["drip"] * 500
    assert said[-1].startswith("... 9,")
