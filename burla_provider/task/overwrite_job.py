"""One try of an overwrite: the ranges write to a staging table, and then its rows replace those of the target."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import psycopg
from airflow.exceptions import AirflowRescheduleException

from burla_provider.database.errors import is_transient
from burla_provider.exceptions import ExchangeError, PermanentError
from burla_provider.task.exchange import AnotherExchangeError, Exchange, exchange_rows
from burla_provider.task.ledger_table import prepare_ledger, remove_run
from burla_provider.task.lineage import TableLineage
from burla_provider.task.resumption import Resumption
from burla_provider.task.run_identity import run_key
from burla_provider.task.session import TaskSession, reconnect, worker_settings
from burla_provider.task.staging import Staging, remove_abandoned
from burla_provider.task.target import TargetSession
from burla_provider.task.transform_job import TransformJob
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.sinks import Insert, Sink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from burla_provider.combine.combiners import Totals
    from burla_provider.task.job_runner import JobRunner
    from burla_provider.task.pause import JobPause
    from burla_provider.task.transform_config import TransformJobConfig

LOCK_SECONDS = 600.0
"""How long to try to lock the target, with waits between the attempts in which other sessions write."""
_WAIT_SECONDS = 5.0


class OverwriteJob(TransformJob):
    """Replace rows of the target by what a function makes of the rows of a table."""

    is_staging = True

    def __init__(
        self,
        config: TransformJobConfig,
        runner: JobRunner,
        session: TaskSession,
        lineage: TableLineage,
        outlets: Sequence[Any],
        target: TargetSession,
        pause: JobPause | None,
        exchange: Exchange,
    ) -> None:
        super().__init__(config, runner, session, lineage, outlets, target, pause)
        if config.resume is False:
            # Workers of an earlier try may still write to its staging table.
            self.ledger_key = f"{self.ledger_key}/try {self.context['ti'].try_number}"
        # A try that was killed may have staged rows of other partitions.
        self.ledger_key += f"/{session.leaves_id}" if session.leaves_id else ""
        self._exchange = exchange
        self._staging = Staging(exchange.target.schema, self.ledger_key)

    @cached_property
    def sink(self) -> Sink:
        """What writes the rows to the staging table."""
        return Insert(replace(self._exchange.target, table=self._staging.table))

    @property
    def written(self) -> tuple[Any, ...]:
        """What identifies the target and the rows that are replaced, and the order in which rows are read."""
        return (*super().written, repr(self._exchange))

    @property
    def ledger_resumption(self) -> Resumption:
        """What a retry finds staged."""
        clearing = "Clearing the task stages all rows again. The target changes only when all of them are staged."
        if self.config.resume is False:
            return Resumption(keeps=False, reason="because of resume=False", clearing=clearing)
        return Resumption(keeps=True, reason="the rows of the others are staged", clearing=clearing)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of the run: the user's, or one beside the staging table."""
        if ledger := super().ledger:
            return ledger
        prepare_ledger(self._target.connection, self._staging.ledger)
        return self._staging.ledger

    def run(self) -> dict[str, Any]:
        """Stage the rows of every range, and replace those of the target."""
        if self.config.plan_only:
            return super().run()
        connection = self._target.connection
        for name in remove_abandoned(connection, self._staging, self.context):
            self.log.info("Dropped %s, which a run of this task had left.", name)
        try:
            self._staging.prepare(connection, self._exchange, self.ledger, self.reject_table, self.context)
            return super().run()
        except BaseException as error:
            if self._is_last_try(error):
                self._drop_staging()
            raise

    def finish_writing(self, totals: Totals) -> Mapping[str, int]:
        """Replace the rows of the target, and return how many were changed."""
        super().finish_writing(totals)
        if not totals.complete:
            raise AssertionError("Ranges are missing: the rows of the target cannot be replaced.")
        if self._pause:
            self._pause.wait()
        row_count = totals.result()["rows_inserted"]
        started = time.monotonic()
        while True:
            try:
                counts = self._exchange_rows(row_count)
            except AnotherExchangeError:  # each of them takes its time, and there may be many
                self.log.info("Waiting for another overwrite of %s.", self._exchange.target)
                started = time.monotonic()
                time.sleep(_WAIT_SECONDS)
            except psycopg.Error as error:
                if not is_transient(error):
                    raise
                reason = error.diag.message_primary or "the connection was lost"
                if time.monotonic() - started > LOCK_SECONDS:
                    problem = f"{self._exchange.target} could not be changed for {LOCK_SECONDS:.0f} s: {reason}."
                    raise ExchangeError(f"{problem} End the transactions that write to it (pg_locks).") from None
                self.log.info("%s could not be changed yet: %s", self._exchange.target, reason)
                time.sleep(_WAIT_SECONDS)
            else:
                seconds, where = time.monotonic() - started, self._exchange.where
                self.log.info("Replaced the rows of %s where %s: %.1f s.", self._exchange.target, where, seconds)
                return counts

    def forget(self, _: Context) -> None:
        """Drop what is left of the run. Call it when Airflow has stored the result: a retry would need the ledger."""
        if not self.config.plan_only:
            with reconnect(self._target.parameters, self._target.name) as connection:
                self._staging.drop(connection)

    def _exchange_rows(self, row_count: int) -> dict[str, int]:
        settings = worker_settings(self.config, self._target.name, {})
        staging = self._staging.relation
        with self._target.final_connection() as connection:
            return exchange_rows(connection, self._exchange, staging, self.ledger, settings, row_count, self.secrets)

    def _is_last_try(self, error: BaseException) -> bool:
        ti = self.context["ti"]
        if isinstance(error, AirflowRescheduleException):
            return False
        return isinstance(error, PermanentError) or ti.try_number > (ti.max_tries or 0)

    def _drop_staging(self) -> None:
        with suppress(psycopg.Error), self._target.final_connection() as connection:
            if self.config.ledger is not None:
                remove_run(connection, self.ledger, run_key(self.context))
            self._staging.drop(connection)
