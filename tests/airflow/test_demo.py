"""The demo with few rows."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import wait_for

ROWS = 30_000


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    # pytest's directory is private, but root's PostgreSQL runs as another user.
    directory = Path(tempfile.mkdtemp(prefix="burla test demo "))  # a home may have a space in its name
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "burla_provider.demo", "--directory", str(directory), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def left_behind(directory: Path) -> list[psutil.Process]:
    """Return the running processes that use this directory."""
    return [process for process in psutil.process_iter() if _belongs_to(process, directory)]


def _belongs_to(process: psutil.Process, directory: Path) -> bool:
    return any(str(directory) in word for word in public_words(process))


def public_words(process: psutil.Process) -> list[str]:
    """Return the command line and the environment of a process; an empty list if it has ended."""
    try:
        return [*process.cmdline(), *process.environ().values()]
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return []


@pytest.fixture(scope="module")
def finished(directory: Path) -> tuple[int, str]:
    """Exit status and output of a complete run."""
    demo = start(directory, "--rows", str(ROWS))
    output, _ = demo.communicate()
    return demo.returncode, output


def test_demo_succeeds(finished):
    status, output = finished
    assert status == 0, output


def test_last_line_has_both_totals_and_they_are_equal(finished):
    summary = json.loads(finished[1].splitlines()[-1])
    assert summary["row_count"] == ROWS
    assert summary["exact"] is True
    assert Decimal(summary["total_amount"]) == Decimal(summary["sql_total_amount"]) > 0
    assert summary["ranges"] >= 1
    assert summary["seconds"] > 0


def test_the_output_has_the_plan_and_the_totals(finished):
    assert "Plan" in finished[1]
    assert f"{ROWS:,} orders, {json.loads(finished[1].splitlines()[-1])['total_amount']} in total" in finished[1]


def test_the_password_is_not_shown_nor_written_to_a_log(finished, directory):
    password = (directory / "postgres-16" / "password").read_text()
    assert password not in finished[1]
    logs = [file for file in directory.rglob("*.log") if file.is_file()]
    assert logs
    assert not any(password in file.read_text(errors="replace") for file in logs)


def test_no_process_is_left_running(finished, directory):
    wait_for(lambda: not left_behind(directory), 60)


def start_and_wait_for(directory: Path, text: str) -> subprocess.Popen[str]:
    demo = start(directory, "--rows", str(ROWS))
    output = ""
    while text not in output:
        output += demo.stdout.read(1)
    return demo


def test_while_it_runs_no_process_shows_the_password(finished, directory):
    password = (directory / "postgres-16" / "password").read_text()
    demo = start_and_wait_for(directory, " | ")
    processes = psutil.Process(demo.pid).children(recursive=True)
    words = [word for process in processes for word in public_words(process)]
    demo.communicate()
    assert words
    assert not any(password in word for word in words)


@pytest.mark.parametrize(
    ("text", "stop_signal"), [("Airflow", signal.SIGTERM), (" | ", signal.SIGINT), ("Task runner", signal.SIGKILL)]
)
def test_a_stopped_demo_leaves_no_process_running(finished, directory, text, stop_signal):
    demo = start_and_wait_for(directory, text)
    demo.send_signal(stop_signal)
    demo.communicate()
    # The kernel ends the children of a killed process after a short time, or a longer one on a busy machine.
    wait_for(lambda: not left_behind(directory), 60)
