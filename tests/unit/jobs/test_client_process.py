"""The client process, its environment and its output."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap

import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.jobs.client_process import ClientProcess, LineReader, child_environment
from burla_provider.jobs.job import ItemBegan, OutputLine


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


def test_a_machine_without_free_files_is_not_an_error_of_the_interpreter():
    script = """
        import resource
        from burla_provider.jobs.client_process import ClientProcess
        resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))  # enough for the pipes of the client
        ClientProcess(None)
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert result.stderr.splitlines()[-1].startswith("OSError: [Errno 24] Too many open files")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="Linux lists the open files of a process")
def test_an_interpreter_that_cannot_be_run_leaves_no_open_pipe():
    gc.collect()  # what other tests have left must not be closed meanwhile
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(InvalidParameterError, match="cannot be run") as error:
        ClientProcess("/no/such/python")
    # The error keeps the frames of its traceback, and what they refer to.
    assert error.tb is not None
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_client_inherits_only_known_variables():
    task = {"PATH": "/bin", "LC_ALL": "C", "https_proxy": "p", "AIRFLOW_HOME": "a", "PGPASSWORD": "s", "ANY_TOKEN": "t"}
    assert child_environment(task) == {
        "PATH": "/bin", "LC_ALL": "C", "https_proxy": "p", "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"
    }  # fmt: skip


def read(*chunks):
    reader = LineReader()
    events = [event for chunk in chunks for event in reader.feed(chunk)] + list(reader.end())
    return [event.text if isinstance(event, OutputLine) else event for event in events]


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


def test_a_message_that_an_item_has_started_is_not_a_line():
    assert read(b"[17] \x1fbegan host-1:42\n[17] text\n") == [ItemBegan(17, "host-1:42"), "[17] text"]


def test_a_message_may_say_how_long_ago_and_which_stage():
    assert read(b"[17] \x1fbegan host:42 1.2\n[8] \x1fisolating host:43\n") == [
        ItemBegan(17, "host:42", 1.2),
        ItemBegan(8, "host:43", 0.0, "isolating"),
    ]


def test_messages_have_no_rate_limit():
    messages = read(*(b"drip\n[%d] \x1fbegan host:1\n" % index for index in range(10_000)))
    assert [message.index for message in messages if isinstance(message, ItemBegan)] == list(range(10_000))


def test_a_message_is_found_behind_the_beginning_of_another_line():
    assert read(b"10 %[17] \x1fbegan host:42\nnext\n") == [ItemBegan(17, "host:42"), "10 %", "next"]


def test_a_message_that_arrives_in_parts_is_found_behind_a_very_long_line():
    message = b"[17] \x1fbegan host:42 1.2\n"
    for end in range(len(message)):
        events = read(b"x" * 3_000 + message[:end], message[end:])
        assert ItemBegan(17, "host:42", 1.2) in events, end
        assert "".join(event for event in events if isinstance(event, str)) in ("x" * 3_000, "x" * 2_000), end
