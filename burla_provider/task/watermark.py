"""What is kept of incremental runs: how far the last success came, each run's window, and an unfinished window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from burla_provider.exceptions import ConcurrentRunError, InvalidParameterError
from burla_provider.task.fingerprint import fingerprint
from burla_provider.task.run_identity import dag_run_pass, is_cleared, run_key, task_run

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from burla_provider.task.session import TaskSession

WINDOW = "burla_incremental_window"
"""Key of the task state store."""


class AssetWatermark:
    """The watermark in Airflow's asset state store (3.3), for the operator's outlet. Windows are dicts:

    - The watermark is the window of the last success: ``begin``, ``end``, ``key`` (of the ledger), and the run.
    - ``unfinished`` in it is a window whose ranges a run with a ledger began to write: ``begin``, ``key``, ``ledger``,
      and the run that worked it last. It is gone as soon as the watermark moves.
    - Each run's own window is also kept in its task state store, so that clearing the run repeats it.

    The watermark moves before Airflow has stored the task's result. If the result is lost, the retry finds the run's
    window and repeats it.

    :param rows: connection id, table, key, and maybe a condition: a task that works other rows has another watermark.
    :raises InvalidParameterError: there is not exactly one outlet asset, or no such store, or another mapped instance of the
        task works these rows in this run.
    """

    def __init__(self, context: Context, outlets: Sequence[Any], rows: tuple[Any, ...], moment: TaskSession) -> None:
        stores = context.get("asset_state_store")
        if stores is None or len(outlets) != 1:
            raise InvalidParameterError(
                "incremental",
                "there is nowhere to keep how far the last success came.",
                "Give the operator one asset as outlets=[Asset(...)]; this needs Airflow 3.3.",
            )
        ti = context["ti"]
        task = f"{ti.dag_id}.{ti.task_id}"
        self._moment = moment
        self._store = cast("Any", stores)[outlets[0]]
        self._windows: Any = context.get("task_state_store")
        # Airflow's keys have at most 512 characters.
        self.name = f"burla_high_water_mark {fingerprint(task, *rows)} {task} {rows[1]}"[:512]
        self._run = {"run": dag_run_pass(context), "map_index": ti.map_index, "run_key": run_key(context)}
        self._run["tries"] = ti.max_tries or 0
        self._task_run = task_run(context)
        self._is_cleared = is_cleared(context)
        self._found = self._store.get(self.name)
        self._mark: dict[str, Any] = self._found or {}
        for window in (self._mark, self._mark.get("unfinished") or {}):
            if window.get("run") == self._run["run"] and window["map_index"] != ti.map_index:
                problem = "another mapped instance of this task processes the same rows of the same table."
                raise InvalidParameterError("incremental", problem, "Map it over table, where or postgres_conn_id.")

    @property
    def end(self) -> str | None:
        """Where the next run begins; None before the first success."""
        return self._mark.get("end")

    @property
    def unfinished(self) -> dict[str, Any] | None:
        """The window that a run wrote a part of."""
        return self._mark.get("unfinished")

    @property
    def window(self) -> dict[str, Any] | None:
        """The window that this run has worked to its end before; None: this is not known."""
        kept = self._windows.get(WINDOW) if self._windows is not None else None
        return next((one for one in (self._mark, kept) if one and "end" in one and self._is_of_this_run(one)), None)

    def is_of_this_try(self, window: dict[str, Any]) -> bool:
        """Whether this run worked the window, and was not cleared since."""
        return bool(window.get("run_key", self._run["run_key"]) == self._run["run_key"])

    def was_cleared_since(self, window: dict[str, Any]) -> bool:
        """Whether this run worked the window, and was cleared since."""
        # Not of a DAG run that was made again with the same id, which is another run: only clearing raises the tries.
        of_this_task = str(window.get("run_key", "")).startswith(f"{self._task_run}/")
        return self._is_cleared and of_this_task and window.get("tries", 0) < self._run["tries"]

    def begin(self, begin: str | None, key: str, ledger: str) -> None:
        """Keep that this run is about to write the ranges of a window, so that the next run can go on with it.

        :raises ConcurrentRunError: another run of the task changed the watermark since this one began.
        """
        self._replace({**self._mark, "unfinished": {"begin": begin, "key": key, "ledger": ledger, **self._run}})

    def take_over(self) -> None:
        """Keep that it is this run that goes on with the unfinished window. A run that was working it cannot move the
        watermark any more.

        :raises ConcurrentRunError: as ``begin``.
        """
        self._replace({**self._mark, "unfinished": {**self._mark["unfinished"], **self._run}})

    def move(self, begin: str | None, end: str, key: str) -> None:
        """Make ``end`` what the next run begins with.

        :raises ConcurrentRunError: as ``begin``.
        """
        self._replace({"begin": begin, "end": end, "key": key, **self._run})

    def keep_window(self, begin: str | None, end: str | None, key: str) -> None:
        """Keep this run's window for as long as Airflow keeps the run."""
        if self._windows is not None:
            from airflow.sdk.execution_time.context import NEVER_EXPIRE

            window = {"begin": begin, "end": end, "key": key, "mark": self.name, **self._run}
            self._windows.set(WINDOW, window, retention=NEVER_EXPIRE)

    def _is_of_this_run(self, window: dict[str, Any]) -> bool:
        if window.get("mark", self.name) != self.name:
            return False
        if "run_key" in window:
            return self.is_of_this_try(window) or self.was_cleared_since(window)
        return bool(window["run"] == self._run["run"])  # an earlier version of this provider has kept it

    def _replace(self, mark: dict[str, Any]) -> None:
        with self._moment.final_connection() as connection, connection.transaction():
            # The store cannot compare and set. Without the lock, two runs that begin together would both succeed.
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [self.name])
            if self._store.get(self.name) != self._found:
                raise ConcurrentRunError(
                    "incremental: another run of this task processed the same rows at the same time. This one's result"
                    " is not used; a retry processes what came since. Set max_active_runs=1 on the DAG."
                )
            self._store.set(self.name, mark)
        self._found = self._mark = mark
