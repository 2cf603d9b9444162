"""The watermark of an incremental task, and the windows of its runs, in Airflow's state stores."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import psycopg

from burla_provider.database.settings import local_settings
from burla_provider.exceptions import ConcurrentRunError, InvalidParameterError
from burla_provider.task.run_identity import dag_run_pass, is_cleared, run_key, task_run

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from burla_provider.task.session import TaskSession

WINDOW = "burla_incremental_window"
"""Key in the task state store."""

_LOCK_SETTINGS = {"lock_timeout": "60s", "idle_in_transaction_session_timeout": "0"}
"""Settings while the watermark is locked. Airflow's API may be slow meanwhile."""

_CONCURRENT = (
    "incremental: another run of this task processed the same rows at the same time. The result of this run is"
    " discarded; a retry processes what is new. Set max_active_tis_per_dag=1 on the task. If it is mapped, set"
    " max_active_runs=1 on the DAG, and create backfills with --max-active-runs 1."
)


class AssetWatermark:
    """The watermark in Airflow's asset state store (3.3), stored for the outlet of the task.

    Windows are dicts:

    - The watermark is the window of the last success: ``begin``, ``end``, ``key`` (of the ledger), and the run.
    - ``unfinished`` in it is a window of which a run with a ledger may have written ranges: ``begin``, ``key``,
      ``ledger``, and the run that processed it last. It is deleted when the watermark advances.
    - ``start`` is there before the first success: the earliest ``start`` that a run had.
    - The window of each run is also stored in its task state store, so that a run that is cleared repeats its window.

    The watermark advances before Airflow has stored the result of the task. If the result is lost, the retry finds the
    window of the run and repeats it.

    :param outlets: the outlets of the task. There must be one.
    :param rows: identifies the rows: the connection, the table, the key, and, if the task is mapped, the condition.
    :param session: the task's session with the database, for a lock.
    :raises InvalidParameterError: if there is no outlet or no store, or if another mapped instance of the task
        processes these rows in this run.
    """

    def __init__(self, context: Context, outlets: Sequence[Any], rows: tuple[Any, ...], session: TaskSession) -> None:
        stores = context.get("asset_state_store")
        if stores is None or len(outlets) != 1:
            raise InvalidParameterError(
                "incremental",
                "there is no place to store the watermark.",
                "Give the operator one asset as outlets=[Asset(...)]; this needs Airflow 3.3.",
            )
        ti = context["ti"]
        task = f"{ti.dag_id}.{ti.task_id}"
        self._session = session
        self._store = cast("Any", stores)[outlets[0]]
        self._task_store: Any = context.get("task_state_store")
        # Airflow limits keys to 512 characters.
        self.store_key = f"burla_high_water_mark {_digest(task, *rows)} {task} {rows[1]}"[:512]
        self._run = {"run": dag_run_pass(context), "map_index": ti.map_index, "run_key": run_key(context)}
        self._run["tries"] = ti.max_tries or 0
        self._task_run = task_run(context)
        self._is_cleared = is_cleared(context)
        self._is_later_try = (ti.try_number or 1) > 1
        self._stored = self._store.get(self.store_key)
        self._watermark: dict[str, Any] = self._stored or {}
        for window in (self._watermark, self._watermark.get("unfinished") or {}):
            if window.get("run") == self._run["run"] and window["map_index"] != ti.map_index:
                problem = "another mapped instance of this task processes the same rows of the same table."
                raise InvalidParameterError("incremental", problem, "Map it over table, where or postgres_conn_id.")

    @property
    def end(self) -> str | None:
        """Where the next run begins; None before the first success."""
        return self._watermark.get("end")

    @property
    def start(self) -> str | None:
        """The earliest start that runs before the first success had; None: they had none."""
        return self._watermark.get("start")

    @property
    def unfinished(self) -> dict[str, Any] | None:
        """The window of which a run has written a part; None: there is none."""
        return self._watermark.get("unfinished")

    @property
    def finished_window(self) -> dict[str, Any] | None:
        """The window that this run has already finished; None: it has not, or this is unknown."""
        stored = self._task_store.get(WINDOW) if self._task_store is not None else None
        finished = [window for window in (self._watermark, stored) if window and "end" in window]
        return next((window for window in finished if self._is_of_this_run(window, is_own=window is stored)), None)

    def is_of_this_try(self, window: dict[str, Any]) -> bool:
        """Return whether this run processed the window and has not been cleared since."""
        return bool(window.get("run_key", self._run["run_key"]) == self._run["run_key"])

    def was_cleared_since(self, window: dict[str, Any], *, is_own: bool = False) -> bool:
        """Return whether this run processed the window and has been cleared since.

        :param is_own: whether it is from the store of the task instance, which Airflow deletes with the DAG run.
        """
        # A DAG run that was deleted and made again with the same id is another run: only clearing raises the tries.
        is_of_this_task = str(window.get("run_key", "")).startswith(f"{self._task_run}/")
        # is_cleared() is wrong if somebody has raised the retries of the DAG file since.
        may_be_cleared = self._is_cleared or (is_own and self._is_later_try)
        return may_be_cleared and is_of_this_task and window.get("tries", 0) < self._run["tries"]

    def save_start(self, start: str) -> None:
        """Store where the first run starts. If it fails, the next run can start there too.

        :raises ConcurrentRunError: if another run of the task has changed the watermark since this one began.
        """
        self._replace({**self._watermark, "start": start})

    def save_unfinished(self, begin: str | None, key: str, ledger: str) -> None:
        """Store that this run is about to write the ranges of a window. The next run can then continue it.

        :raises ConcurrentRunError: if another run of the task has changed the watermark since this one began.
        """
        self._replace({**self._watermark, "unfinished": {"begin": begin, "key": key, "ledger": ledger, **self._run}})

    def take_over_unfinished(self) -> None:
        """Store that this run continues the unfinished window. Another run that processes it cannot succeed any more.

        :raises ConcurrentRunError: if another run of the task has changed the watermark since this one began.
        """
        self._replace({**self._watermark, "unfinished": {**self._watermark["unfinished"], **self._run}})

    def advance(self, begin: str | None, end: str, key: str) -> None:
        """Advance the watermark to ``end``, where the next run begins.

        :raises ConcurrentRunError: if another run of the task has changed the watermark since this one began.
        """
        self._replace({"begin": begin, "end": end, "key": key, **self._run})

    def save_window(self, begin: str | None, end: str | None, key: str) -> None:
        """Store the window of this run for as long as Airflow keeps the run."""
        if self._task_store is not None:
            from airflow.sdk.execution_time.context import NEVER_EXPIRE

            window = {"begin": begin, "end": end, "key": key, "mark": self.store_key, **self._run}
            self._task_store.set(WINDOW, window, retention=NEVER_EXPIRE)

    def _is_of_this_run(self, window: dict[str, Any], *, is_own: bool) -> bool:
        if window.get("mark", self.store_key) != self.store_key:
            return False
        if "run_key" in window:
            return self.is_of_this_try(window) or self.was_cleared_since(window, is_own=is_own)
        return bool(window["run"] == self._run["run"])  # stored by an earlier version of the provider

    def _replace(self, watermark: dict[str, Any]) -> None:
        with self._session.short_transaction() as connection:
            # The store has no compare-and-set. Without the lock, two runs that begin together would both succeed.
            connection.execute(local_settings(_LOCK_SETTINGS))
            try:
                connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [self.store_key])
            except psycopg.errors.LockNotAvailable:
                raise ConcurrentRunError(_CONCURRENT) from None
            if self._store.get(self.store_key) != self._stored:
                raise ConcurrentRunError(_CONCURRENT)
            self._store.set(self.store_key, watermark)
        self._stored = self._watermark = watermark


def _digest(*parts: str | None) -> str:
    """Return a short text for the parts. It must stay the same in all versions, or they lose their watermarks.

    ``fingerprint`` would change whenever it learns to compare code better.
    """
    # The first and the last text are those that version 0.1.0 used.
    texts = (f"tuple of {len(parts) + 1}", *map(repr, parts), "list of 0")
    return hashlib.sha256(b"".join(text.encode("utf-8", "backslashreplace") + b"\0" for text in texts)).hexdigest()[:32]
