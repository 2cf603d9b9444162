"""Measure during a soak what must not grow: memory, descriptors, processes, sessions and rows of the state stores."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import psycopg

from burla_provider.task.watermark import WINDOW
from tests.soak.airflow import SoakAirflow, descendants

_EVERY_SECONDS = 4
_MIN_SAMPLES = 9


@dataclass(frozen=True)
class Quantity:
    """What is measured.

    :param factor: how much more is allowed in the last third of the run than in the first one.
    :param margin: how much more is allowed in addition.
    """

    name: str
    factor: float
    margin: float


QUANTITIES = (
    Quantity("processes", 1.2, 6),
    Quantity("memory (MB)", 1.2, 150),
    Quantity("file descriptors", 1.2, 60),
    Quantity("database sessions", 1.2, 6),
    Quantity("state store rows", 1.2, 12),
)


class Meter:
    """Takes samples in a thread, as a context manager.

    :param source: conninfo of the server of the tables.
    """

    def __init__(self, airflow: SoakAirflow, source: str) -> None:
        self._airflow = airflow
        self._source = source
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._samples: list[tuple[float, ...]] = []

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def growth(self) -> tuple[list[str], list[str]]:
        """Return the lines of a table, and what has grown.

        A third counts by its lower quartile: what leaks is there when few tasks run, too.
        """
        if len(self._samples) < _MIN_SAMPLES:
            return [f"Only {len(self._samples)} samples were taken: too few to see whether anything grows."], []
        lines = [f"{'':20}{'first third':>12}{'middle':>12}{'last third':>12}{'maximum':>12}"]
        grown = []
        third = len(self._samples) // 3
        for number, quantity in enumerate(QUANTITIES):
            values = [sample[number] for sample in self._samples]
            thirds = [values[:third], values[third:-third], values[-third:]]
            first, middle, last = map(_lower_quartile, thirds)
            lines.append(f"{quantity.name:20}{first:12.0f}{middle:12.0f}{last:12.0f}{max(values):12.0f}")
            if last > first * quantity.factor + quantity.margin:
                grown.append(f"{quantity.name} grew from {first:.0f} to {last:.0f}")
        return lines, grown

    def _run(self) -> None:
        while not self._stopped.wait(_EVERY_SECONDS):
            if self._airflow.is_complete():
                try:
                    self._samples.append(self._sample())
                except psycopg.OperationalError:
                    continue  # the server restarts

    def _sample(self) -> tuple[float, ...]:
        processes = memory = descriptors = 0
        for process in descendants():
            try:
                memory += process.memory_full_info().pss
                descriptors += process.num_fds()
                processes += 1
            except psutil.Error:
                pass  # it has ended
        with psycopg.connect(self._source, application_name="meter", autocommit=True) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'soak%'"
            [(sessions,)] = connection.execute(query).fetchall()
        rows = sum(count for key, count in self._airflow.state_rows().items() if key != WINDOW)
        return processes, memory / 2**20, descriptors, sessions, rows


def _lower_quartile(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 4]
