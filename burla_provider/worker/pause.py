"""Wait on a worker while the task has paused the job."""

from __future__ import annotations

import random
from dataclasses import dataclass

from psycopg import sql

from burla_provider.worker.time_limit import sleep_outside_limit


@dataclass(frozen=True)
class PauseLock:
    """An advisory lock of the target's database, which the task holds exclusively while the job is paused.

    It belongs to the task's session, so the server releases it however the task ends. A worker tries it in a round trip
    that its transaction needs anyway, and holds it shared until this transaction ends: a pause begins when all of them
    have ended. Locks of a transaction work behind a pooler too, because it keeps its server connection until the end.

    :param key: identifies the job. Nobody else knows it.
    :param seconds: mean time between two tries of a worker that waits.
    """

    key: int
    seconds: float = 5.0

    @property
    def lock(self) -> sql.Composed:
        """The query with which the task takes the lock."""
        return sql.SQL("SELECT pg_advisory_xact_lock({})").format(self.key)

    @property
    def try_shared(self) -> sql.Composed:
        """The query with which a worker tries the lock. It fails too while the task waits for the lock."""
        return sql.SQL("SELECT pg_try_advisory_xact_lock_shared({})").format(self.key)

    def wait(self) -> None:
        """Wait until the next try. This time does not count for ``range_timeout``."""
        # Otherwise all workers would try, and go on, at the same time.
        sleep_outside_limit(random.uniform(0.5, 1.5) * self.seconds)  # noqa: S311
