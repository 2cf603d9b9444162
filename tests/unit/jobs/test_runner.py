"""Jobs on the local engine, with real processes."""

from __future__ import annotations

import os
import signal
import sys
import time
import tracemalloc
from pathlib import Path
from typing import get_args

import psutil
import pytest

from burla_provider.exceptions import BurlaNotInstalledError, InvalidParameterError, JobLostError
from burla_provider.jobs import client
from burla_provider.jobs.job import (
    ENGINES,
    Engine,
    EngineName,
    ItemSucceeded,
    Job,
    JobOptions,
    JobStarted,
    OutputLine,
    Tick,
)
from burla_provider.jobs.runner import _ClientEnd, _MissingItems, run_job
from tests.unit.jobs.running import (
    KILLED,
    LOCAL,
    assert_group_ends,
    attempts,
    client_of,
    crashed,
    lines,
    make_job,
    process_group,
    results,
    run,
    start_task,
)


def echo(index, item):
    return repr((index, item)).encode()


def sleep_long(index, item):
    time.sleep(600)
    return b""


def test_every_engine_has_a_file():
    assert set(ENGINES) == set(get_args(EngineName))
    directory = Path(client.__file__).parent
    assert sorted(path.name for path in directory.glob("*_engine.py")) == [f"{name}_engine.py" for name in ENGINES]


def test_every_item_succeeds_once():
    events = run(echo, range(2_000))
    assert sorted(event.index for event in events if isinstance(event, ItemSucceeded)) == list(range(2_000))


def test_items_keep_their_index_if_some_are_missing():
    pickled = make_job(echo, []).pickled_callable
    events = run_job(Job("a-test", pickled, {7: "seven", 3: "three"}), LOCAL)
    assert results(events) == {7: b"(7, 'seven')", 3: b"(3, 'three')"}


def test_a_tuple_is_one_item():
    assert results(run(echo, [(1, 2), ((3,),)])) == {0: b"(0, (1, 2))", 1: b"(1, ((3,),))"}


def test_an_item_may_be_any_value():
    items = [None, False, 0, "", b"", (), [], {}, float("nan"), ...]
    assert results(run(echo, items)) == {index: echo(index, item) for index, item in enumerate(items)}


def test_no_items_start_no_process():
    assert run(echo, []) == []


def test_the_first_event_is_the_start_of_the_job():
    events = run(echo, [1])
    assert isinstance(next(event for event in events if not isinstance(event, Tick)), JobStarted)


def test_ticks_come_while_nothing_else_happens():
    events = run_job(make_job(sleep_long, [1]), LOCAL, tick_seconds=0.01)
    assert sum(isinstance(next(events), Tick) for _ in range(10)) >= 5
    events.close()


def test_the_callable_is_unpickled_once_per_worker(tmp_path):
    class Function:
        def __init__(self, directory):
            self.directory = directory

        def __setstate__(self, state):
            self.__dict__ = state
            (self.directory / str(os.getpid())).open("a").write("unpickled\n")

        def __call__(self, index, item):
            return b""

    events = run_job(make_job(Function(tmp_path), range(50), options=JobOptions(max_parallelism=3)), LOCAL)
    assert len(results(events)) == 50
    assert {file.read_text() for file in tmp_path.iterdir()} == {"unpickled\n"}


def test_there_are_at_most_max_parallelism_workers():
    def worker_id(index, item):
        return str(os.getpid()).encode()

    events = run_job(make_job(worker_id, range(40), options=JobOptions(max_parallelism=2)), LOCAL)
    assert len(set(results(events).values())) <= 2


def raise_custom_error(index, item):
    class CustomError(Exception):
        def __init__(self, needed):
            super().__init__("custom message")
            self.lock = __import__("threading").Lock()

    raise CustomError(1)


def call_sys_exit(index, item):
    sys.exit(3)


def return_text(index, item):
    return "text"


def interrupt(index, item):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (raise_custom_error, "custom message"),
        (call_sys_exit, "SystemExit: 3"),
        (interrupt, "KeyboardInterrupt"),
        (return_text, "The callable must return bytes, got str"),
    ],
)
def test_an_exception_fails_only_its_item(function, message):
    def sometimes(index, item):
        return function(index, item) if index == 1 else b"fine"

    events = run(sometimes, range(3))
    assert results(events) == {0: b"fine", 2: b"fine"}
    assert message in crashed(events)[1]


def test_the_error_names_a_package_that_the_worker_does_not_have():
    class Needs:
        def __reduce__(self):
            return __import__, ("a_package_nobody_has",)

    error = crashed(run(Needs(), [1]))[0]
    assert "No module named 'a_package_nobody_has'" in error
    assert "requirements=[...]" in error


def test_an_item_whose_worker_died_is_run_again(tmp_path):
    def die_once(index, item):
        if index == 2 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os._exit(1)
        return b"done"

    events = run(die_once, range(5))
    assert results(events) == dict.fromkeys(range(5), b"done")
    assert OutputLine("A worker process died (exit status 1); running its item again.", index=2) in events


def test_an_item_whose_worker_was_killed_while_it_sent_the_result_is_run_again(tmp_path):
    def die_once(index, item):
        if index == 2 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            large_answer = len(b"x" * 10_000_000).to_bytes(4, "big") + b"x" * 100
            files = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
            (connection,) = [path.name for path in files if os.readlink(path).startswith("socket:")]
            os.write(int(connection), large_answer)  # the part that was sent before the signal
            os.kill(os.getpid(), signal.SIGKILL)
        return b"done"

    events = run(die_once, range(5))
    assert results(events) == dict.fromkeys(range(5), b"done")
    assert OutputLine(KILLED, index=2) in events


def test_an_item_that_kills_every_worker_crashes_and_the_others_finish():
    def die(index, item):
        if index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return b"done"

    events = run(die, range(20))
    assert crashed(events) == {1: "Its worker died 3 times (signal 9: killed, usually because memory ran out)."}
    assert len(results(events)) == 19


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (lambda: os._exit(137), "exit status 137: killed, usually because memory ran out"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "signal 11: a crash in native code"),
        (os.abort, "signal 6: a crash in native code"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "signal 15"),
        (lambda: os._exit(1), "exit status 1"),
    ],
    ids=["137", "segfault", "abort", "terminated", "1"],
)
def test_the_end_of_a_worker_is_explained(end, text):
    assert crashed(run(lambda index, item: end(), [1])) == {0: f"Its worker died 3 times ({text})."}


def test_an_item_that_has_a_result_does_not_crash():
    """Its worker died after it had sent the result, which a real one does too rarely."""
    missing = _MissingItems({0: None, 1: None}, retries=1)
    missing.remove(0)
    events = list(missing.handle_loss(_ClientEnd("lost", indexes=(0,))))
    assert [event.index for event in events] == [None]  # the whole job was lost, not this item
    assert missing.crashes(0) == 0


def test_a_crash_counts_how_often_the_item_was_tried(tmp_path):
    def work(index, item):
        if index == 1:
            os._exit(1)
        if index == 2 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os._exit(1)
        raise ValueError

    assert attempts(run(work, range(4))) == {0: 1, 1: 3, 2: 2, 3: 1}


def test_the_job_ends_although_a_function_left_a_thread():
    def leave_a_thread(index, item):
        import threading

        threading.Thread(target=time.sleep, args=[3_600]).start()
        return b"done"

    assert results(run(leave_a_thread, range(4))) == dict.fromkeys(range(4), b"done")


def test_atexit_functions_of_a_worker_run(tmp_path):
    def register_atexit(index, item):
        import atexit

        atexit.register((tmp_path / str(index)).touch)
        return b"done"

    run(register_atexit, range(4))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0", "1", "2", "3"]


def test_a_worker_that_closed_its_connection_is_killed(tmp_path):
    def close_connection_once(index, item):
        if index == 1 and not (tmp_path / "closed").exists():
            (tmp_path / "closed").touch()
            os.closerange(3, 100)
            time.sleep(3_600)
        return b"done"

    events = run(close_connection_once, range(3))
    assert results(events) == dict.fromkeys(range(3), b"done")
    assert OutputLine(KILLED, index=1) in events


def test_a_worker_that_died_does_not_keep_the_others_from_finishing(tmp_path):
    exits = []

    def fail_once(index, item):
        import atexit

        if index == 0 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os._exit(1)
        time.sleep(0.2)
        if not exits:  # workers have 5 seconds for all their atexit functions
            exits.append(atexit.register(lambda: (time.sleep(0.3), (tmp_path / f"exit {os.getpid()}").touch())))
        return str(os.getpid()).encode()

    job = make_job(fail_once, range(6), options=JobOptions(max_parallelism=2))
    events = list(run_job(job, LOCAL))
    workers = set(results(events).values())
    assert {path.name for path in tmp_path.glob("exit *")} == {f"exit {pid.decode()}" for pid in workers}
    assert lines(events) == ["A worker process died (exit status 1); running its item again."]


def test_a_child_process_of_a_worker_that_died_does_not_keep_the_job_waiting(tmp_path):
    def leave_a_child(index, item):
        if not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            if os.fork() == 0:
                time.sleep(600)
            os.kill(os.getpid(), signal.SIGKILL)
        return b""

    events = run(leave_a_child, [0])
    assert OutputLine(KILLED, index=0) in events


def test_a_function_that_returns_in_a_forked_child_too_has_one_result():
    def fork(index, item):
        os.fork()
        return str(os.getpid()).encode()

    job = make_job(fork, range(60), batched_for=1, options=JobOptions(max_parallelism=1))
    events = list(run_job(job, LOCAL))
    assert sorted(results(events)) == list(range(60))
    assert len(set(results(events).values())) == 1


def test_after_a_killed_client_only_missing_items_run_again(tmp_path):
    def count_calls(index, item):
        with (tmp_path / str(index)).open("a") as file:
            file.write("x")
        while index >= 2_000 and not (tmp_path / "killed").exists():
            time.sleep(0.01)  # otherwise the job may end before the test has read the first result
        return b"done"

    def kill_first_client(events):
        for event in events:
            if isinstance(event, ItemSucceeded) and not killed:
                killed.append(client_of())
                killed[0].kill()
                (tmp_path / "killed").touch()
            yield event

    killed: list[psutil.Process] = []
    events = list(kill_first_client(run_job(make_job(count_calls, range(3_000)), LOCAL)))
    assert len(results(events)) == 3_000
    assert sum(isinstance(event, JobStarted) for event in events) == 2
    assert any("The client process died (exit status -9)." in line for line in lines(events))
    twice = [file for file in tmp_path.iterdir() if len(file.read_text()) > 1]
    assert len(twice) < 1_000
    assert_group_ends(killed[0].pid)


def test_the_error_of_a_lost_job_counts_the_missing_items():
    def kill_the_client(index, item):
        if index == 0:
            os.kill(os.getpgid(0), signal.SIGKILL)
            time.sleep(600)
        return b"done"

    with pytest.raises(JobLostError, match=r"lost 2 times, and \d of 4 items are still missing"):
        run(kill_the_client, range(4), job_retries=1)


def test_a_client_that_dies_after_the_last_result_loses_nothing():
    def kill_the_client_at_the_end(index, item):
        import atexit

        atexit.register(os.kill, os.getpgid(0), signal.SIGKILL)
        return b"done"

    events = run(kill_the_client_at_the_end, [1], job_retries=0)
    assert results(events) == {0: b"done"}


def started_job():
    """Start a job, and return its events and process group while its workers are in long calls."""

    def print_and_sleep(index, item):
        print("started")
        time.sleep(600)

    events = run_job(make_job(print_and_sleep, range(10)), LOCAL)
    for event in events:
        if isinstance(event, OutputLine):
            return events, client_of().pid
    raise AssertionError


def test_closing_the_job_leaves_no_process():
    events, leader = started_job()
    assert len(process_group(leader)) > 1
    events.close()
    assert_group_ends(leader)


def test_an_exception_thrown_into_the_job_leaves_no_process():
    events, leader = started_job()
    with pytest.raises(ZeroDivisionError):
        events.throw(ZeroDivisionError())
    assert_group_ends(leader)


def test_an_exception_of_a_signal_handler_ends_the_job(monkeypatch):
    class Timeout(BaseException):
        pass

    def time_out(number, frame):
        if events.gi_running:
            raise Timeout
        signal.setitimer(signal.ITIMER_REAL, 0.05)  # a busy machine: the job is not waited for yet

    events, leader = started_job()
    before = signal.signal(signal.SIGALRM, time_out)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Timeout):
            for _ in events:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert_group_ends(leader)


TASK = """
    import sys, time
    from burla_provider.jobs.job import OutputLine
    from tests.unit.jobs.running import LOCAL, client_of, make_job
    from burla_provider.jobs.runner import run_job

    def work(index, item):
        print("started")
        time.sleep(600)

    for event in run_job(make_job(work, range(4)), LOCAL):
        if isinstance(event, OutputLine):
            print(client_of().pid, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_a_killed_task(number):
    with start_task(TASK) as task:
        members = process_group(int(task.stdout.readline()))
        assert len(members) > 1
        task.send_signal(number)
        _, alive = psutil.wait_procs(members, timeout=60)
        assert alive == []


def test_no_process_outlives_a_task_and_client_that_were_killed_together():
    with start_task(TASK) as task:
        leader = int(task.stdout.readline())
        members = process_group(leader)
        task.kill()
        os.kill(leader, signal.SIGKILL)
        _, alive = psutil.wait_procs(members, timeout=60)
        assert alive == []


def test_a_fork_of_the_task_does_not_keep_the_client_alive():
    script = TASK.replace(
        "    print(client_of", "    fork = os.fork() or time.sleep(600)\n            print(fork, client_of"
    )
    with start_task(script.replace("import sys", "import os, sys")) as task:
        fork, leader = map(int, task.stdout.readline().split())
        members = process_group(leader)
        task.kill()
        _, alive = psutil.wait_procs(members, timeout=60)
        os.kill(fork, signal.SIGKILL)
        assert alive == []


def test_output_lines_begin_with_their_item():
    def print_lines(index, item):
        print("to", "stdout")
        print("to stderr", file=sys.stderr)
        print("no newline", end="")
        return b""

    assert sorted(lines(run(print_lines, range(2)))) == [
        "[0] no newline", "[0] to stderr", "[0] to stdout", "[1] no newline", "[1] to stderr", "[1] to stdout"
    ]  # fmt: skip


def test_a_subprocess_of_a_call_can_write_to_stdout():
    def run_echo(index, item):
        import subprocess

        subprocess.run(["echo", "from a child"], stdout=sys.stdout, check=True)
        return b""

    assert "from a child" in lines(run(run_echo, [1]))


def test_output_beyond_the_rate_limit_is_counted():
    def print_many_lines(index, item):
        for number in range(50_000):
            print("line", number)
        return b""

    output = lines(run(print_many_lines, [1]))
    assert len(output) < 2_000
    assert any("more lines exceeded the rate limit" in line for line in output)


def test_no_secret_reaches_a_command_line_or_an_environment(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_ORDERS", "postgres://u:env-secret@db/x")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "env-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "env-secret")
    monkeypatch.setenv("BURLA_AUTH_TOKEN", "env-secret")
    password = "work-secret"

    def work(index, item):
        print("started")
        time.sleep(600)
        return password.encode()

    engine = Engine("local", email="someone@example.com", token="token-secret")
    events = run_job(make_job(work, ["item-secret"] * 4), engine)
    next(event for event in events if isinstance(event, OutputLine))
    members = process_group(client_of().pid)
    seen = [Path(f"/proc/{member.pid}/{file}").read_bytes() for member in members for file in ("cmdline", "environ")]
    events.close()
    assert len(members) > 1
    assert [text for text in seen if b"secret" in text] == []
    assert "secret" not in repr(engine)


def test_the_error_names_an_interpreter_that_does_not_exist():
    with pytest.raises(InvalidParameterError, match=r"^python: /no/such/python cannot be run"):
        run(echo, [1], Engine("local", python="/no/such/python"))


def test_the_error_of_an_interpreter_without_burla_says_what_to_install(tmp_path):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')
    bare.chmod(0o700)
    with pytest.raises(BurlaNotInstalledError, match=r"pip install 'airflow-provider-burla\[burla\]'"):
        run(echo, [1], Engine("burla", python=str(bare)))


def test_the_items_of_a_job_are_not_copied_while_it_runs():
    job = make_job(echo, [str(number) * 5_000 for number in range(2_000)])
    size = sum(map(len, job.items.values()))
    tracemalloc.start()
    try:
        events = run_job(job, LOCAL)
        next(event for event in events if isinstance(event, ItemSucceeded))
        copied, _ = tracemalloc.get_traced_memory()
        events.close()
    finally:
        tracemalloc.stop()
    assert copied < size / 10
