"""Print the demo's output: one line per step, the task's log, and a comparison of the totals."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import burla_provider

_OPERATORS = "airflow.task.operators."
_RETURN_VALUE = "Done. Returned value was"  # Airflow's message


class Step:
    """One line of output: the step's name, a dot per second while it runs, and its result.

    As a context manager, it also ends the line if the step fails, so that the error starts on a new line.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._started = time.monotonic()
        self._finished = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def update(self, text: str) -> None:
        """Print the progress of the step."""
        show(f" {text}", end="")

    def finish(self, text: str) -> None:
        """Print the result of the step and the time it took."""
        self._finished.set()
        show(f" {text} ({time.monotonic() - self._started:.1f} s)")

    def __enter__(self) -> Step:
        show(f"  {self._label:<16}", end="")
        self._ticker.start()
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._finished.set()
        self._ticker.join()
        if error is not None:
            show()

    def _tick(self) -> None:
        while not self._finished.wait(1):
            show(".", end="")


class TaskLog:
    """Prints the records of operators, and the errors of tasks, from Airflow's log."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._last_time = ""

    @property
    def seconds(self) -> float:
        """The seconds since the log was created."""
        return time.monotonic() - self._started

    def show(self, record: Mapping[str, Any]) -> None:
        """Print the record, unless it is a record of Airflow itself."""
        for line in relevant_text(record).splitlines():
            time_now = f"{self.seconds:.1f} s"
            # Print a time only if it changed, so that lines of one record look like one record.
            show(f"  {'' if time_now == self._last_time else time_now:>8} | {line}".rstrip())
            self._last_time = time_now


def relevant_text(record: Mapping[str, Any]) -> str:
    """Return the text of the record; an empty string for records of Airflow itself."""
    event = str(record.get("printed") or record.get("event") or "")
    from_task = "printed" in record or str(record.get("logger")).startswith(_OPERATORS)
    if from_task and not event.startswith(_RETURN_VALUE):
        lines = [line.removeprefix("::group::") for line in event.splitlines()]
        return "\n".join(line for line in lines if line != "::endgroup::")
    return "\n".join(f"{error['exc_type']}: {error['exc_value']}" for error in record.get("exception") or ())


def compare_totals(totals: list[tuple[str, Any, Any]]) -> bool:
    """Print the totals of the DAG and of SQL in two columns, and return whether all are equal.

    :param totals: name, value of the DAG, value of SQL.
    """
    show(f"\n  {'':<14}{'the DAG':>24}{'one SQL query':>24}")
    for name, dag_value, sql_value in totals:
        verdict = "equal" if dag_value == sql_value else "DIFFERENT"
        show(f"  {name:<14}{dag_value:>24,}{sql_value:>24,}   {verdict}")
    return all(dag_value == sql_value for _, dag_value, sql_value in totals)


def show_next_steps() -> None:
    """Print what to do after the demo. The Makefile and the guides are only in a checkout."""
    root = Path(burla_provider.__file__).parents[1]
    if (root / "Makefile").exists():
        steps = {
            "make airflow": "opens this DAG, and the Ranges tab of its task, in Airflow's UI",
            "make cluster && make demo ENGINE=burla": "runs it on a real Burla cluster on this machine",
            "docs/get-started/local.md": "processes a table of your own",
        }
    else:
        steps = {
            "python -m burla_provider.demo --serve": "opens this DAG, and the Ranges tab of its task, in Airflow's UI",
            "python -m burla_provider.demo --engine burla": "runs it on a Burla cluster of this machine",
            "python -m burla_provider.doctor --help": "checks the connections to a database and a cluster of your own",
        }
    show("Next:")
    for command, result in steps.items():
        show(f"  {command:<46}{result}")


def show(text: str = "", end: str = "\n") -> None:
    """Print without buffering, so that parts of a line appear at once."""
    print(text, end=end, flush=True)
