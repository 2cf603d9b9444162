"""What the demo says: one line a step, the task's log as it comes, two columns of totals."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

_OPERATORS = "airflow.task.operators."
_HOUSEKEEPING = "Done. Returned value was"


class Step:
    """One line that grows: a dot every second while it lasts, then what came of it.

    As a context manager, it ends its line also when it fails, so that the error has a line of its own.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def note(self, text: str) -> None:
        """How far the step is."""
        say(f" {text}", end="")

    def done(self, text: str) -> None:
        """What came of it."""
        self._ended.set()
        say(f" {text} ({time.monotonic() - self._began:.1f} s)")

    def __enter__(self) -> Step:
        say(f"  {self._label:<16}", end="")
        self._clock.start()
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._ended.set()
        self._clock.join()
        if error is not None:
            say()

    def _tick(self) -> None:
        while not self._ended.wait(1):
            say(".", end="")


class TaskLog:
    """Prints what a person wants of Airflow's records: what the operators say, and why a task failed."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._shown = ""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def show(self, record: Mapping[str, Any]) -> None:
        for line in worth_reading(record).splitlines():
            now = f"{self.seconds:.1f} s"
            # The time where it changes, so that what belongs together looks it.
            say(f"  {'' if now == self._shown else now:>8} | {line}".rstrip())
            self._shown = now


def worth_reading(record: Mapping[str, Any]) -> str:
    """The record's text; empty when it is Airflow's own housekeeping."""
    event = str(record.get("printed") or record.get("event") or "")
    by_a_task = "printed" in record or str(record.get("logger")).startswith(_OPERATORS)
    if by_a_task and not event.startswith(_HOUSEKEEPING):
        lines = [line.removeprefix("::group::") for line in event.splitlines()]
        return "\n".join(line for line in lines if line != "::endgroup::")
    return "\n".join(f"{error['exc_type']}: {error['exc_value']}" for error in record.get("exception") or ())


def compare(rows: list[tuple[str, Any, Any]]) -> bool:
    """Prints the DAG's values beside SQL's; whether all are equal."""
    say(f"\n  {'':<14}{'the DAG':>24}{'one SQL query':>24}")
    for name, ours, theirs in rows:
        verdict = "equal" if ours == theirs else "DIFFERENT"
        say(f"  {name:<14}{ours:>24,}{theirs:>24,}   {verdict}")
    return all(ours == theirs for _, ours, theirs in rows)


def say(text: str = "", end: str = "\n") -> None:
    """Prints at once, so that a line can grow."""
    print(text, end=end, flush=True)
