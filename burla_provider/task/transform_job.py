"""One try of a BurlaPostgresTransformOperator: a table job whose ranges write to a target."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from burla_provider.combine.combiners import Combiner, SumByKey, Totals
from burla_provider.database.connect import is_pooled
from burla_provider.database.connection_limit import ConnectionLimit
from burla_provider.database.redact import join_secrets
from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key import Key
from burla_provider.task.lineage import TableLineage
from burla_provider.task.reject_table import RejectReport, open_reject_table, read_limit
from burla_provider.task.session import TaskSession, worker_settings
from burla_provider.task.table_job import TableJob
from burla_provider.task.target import TargetSession, find_unique_key
from burla_provider.task.target_catalog import read_generated
from burla_provider.task.target_probe import check_persistence
from burla_provider.task.transform_hints import check_split_key, log_version_hint
from burla_provider.worker.batch_rows import BatchRows
from burla_provider.worker.chunk_ledger import read_counts
from burla_provider.worker.isolation import IsolateFailures
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.processors import RangeProcessor, Transform
from burla_provider.worker.rejects import COUNT, RejectLimit, RejectTable
from burla_provider.worker.row_functions import MapBatch, MapRow, RowFormat, RowFunction
from burla_provider.worker.sinks import Sink, UpdateInPlace
from burla_provider.worker.target_writer import TargetWriter
from burla_provider.worker.update_functions import EachRow, UpdateRows

if TYPE_CHECKING:
    from burla_provider.ranges.plan import Plan, RangePlan
    from burla_provider.task.job_runner import JobRunner
    from burla_provider.task.job_store import JobStore
    from burla_provider.task.monitor import JobMonitor, OutcomeListener
    from burla_provider.task.pause import JobPause
    from burla_provider.task.transform_config import TransformJobConfig


class TransformJob(TableJob):
    """Write what a function makes of the rows of a table.

    :param target: the session with the target's database.
    :param pause: pauses the workers; None: nothing does.
    """

    config: TransformJobConfig

    def __init__(
        self,
        config: TransformJobConfig,
        runner: JobRunner,
        session: TaskSession,
        lineage: TableLineage,
        outlets: Sequence[Any],
        target: TargetSession,
        pause: JobPause | None,
    ) -> None:
        super().__init__(config, runner, session, lineage, outlets)
        self._pause = pause
        self._target = target
        if not config.plan_only:
            lineage.add_output(target.target.schema, target.target.table, target.connection.info)

    @cached_property
    def processing(self) -> tuple[RangeProcessor, Combiner]:
        """How a range is processed, and how the counts of all ranges are added up."""
        self._check_repeatable()
        config, target = self.config, self._target
        settings = worker_settings(config, target.name, target.settings)
        lock = self._pause.lock if self._pause else None
        rejects = self.reject_table
        writer = TargetWriter(target.parameters, settings, self.sink, self.ledger, self._target_slots, lock, rejects)
        counts = SumByKey()
        names = (*self.sink.counts, "rows_filtered", *([COUNT] if rejects else []))
        counts.add(-1, dict.fromkeys(names, 0))  # also if no row is written
        function = self._isolated(self._function)
        limit = self._reject_limit
        key, fixed = self._unique_key, self._fixed_key
        return Transform(function, writer, key, fixed_key=fixed, reads_xmin=config.is_in_place, limit=limit), counts

    @property
    def sink(self) -> Sink:
        """What writes the rows."""
        sink = self._target.sink
        return replace(sink, fixed=self._fixed_key) if isinstance(sink, UpdateInPlace) else sink

    @cached_property
    def _fixed_key(self) -> tuple[str, ...] | None:
        """The columns of the unique key that are in the given split key, which no session changes; None: all."""
        # Rows with the same values of these columns are computed again together, which must not change them twice.
        if not self.config.is_in_place or self.config.key is None or self._read_and_written:
            return None
        split = [self.config.key] if isinstance(self.config.key, str) else self.config.key
        names = self._unique_key.names
        fixed = tuple(name for name in names if name in split)
        return fixed if fixed and fixed != names else None

    def make_monitor(self, plan: Plan, store: JobStore, listeners: Sequence[OutcomeListener]) -> JobMonitor:
        """Return a monitor that also pauses the workers, and counts rejected rows."""
        rejects = [self._reject_report] if self._reject_report else []
        monitor = super().make_monitor(plan, store, [*listeners, *rejects])
        monitor.pause = self._pause
        return monitor

    def plan(self, lower: Any = None) -> RangePlan:
        """Return a new plan, whose key no update changes."""
        plan = super().plan(lower)
        session = self.session
        check_split_key(session.connection, session.facts, plan.key, self.config, self.log)
        log_version_hint(session.facts, plan.key, self._unique_key, self._target.sink, self.log)
        return plan

    def finish_writing(self, totals: Totals) -> Mapping[str, int]:
        """Add what the failed ranges have written, and check how many rows were rejected.

        :raises TooManyRejectsError: if more rows were rejected than are tolerated.
        """
        report = self._reject_report
        if self.ledger is not None and not totals.complete:
            missing = set(totals.missing)
            with self._target.final_connection() as connection:
                for index, row_count, counts in read_counts(connection, self.ledger):
                    if index in missing:  # another worker may have finished it
                        totals.add_partial(index, counts, row_count)
                        if report:
                            report.count(counts, row_count)
        if report:
            report.check()
        return {}

    @cached_property
    def ledger(self) -> Ledger | None:
        """The ledger of the run, if there is one. A crash of the server does not empty only the target or only it.

        :raises InvalidParameterError: if it would.
        """
        ledger = super().ledger
        if ledger is not None and not self.is_staging:
            check_persistence(self._target.connection, ledger, self._target.target)
        return ledger

    @cached_property
    def reject_table(self) -> RejectTable | None:
        """The table of rejected rows, if there is one. It exists."""
        name = self.config.reject_table
        if name is None:
            return None
        assert self.ledger is not None  # noqa: S101 (the config has checked it)
        run = (self.ledger.run_key, self.context["ti"].try_number)
        columns, may_restart = tuple(self.source.columns), self.config.write_mode == "overwrite"
        return open_reject_table(self._target.connection, name, *run, columns, self.secrets, may_restart=may_restart)

    @cached_property
    def _reject_limit(self) -> RejectLimit | None:
        tolerated = self.config.tolerated_rejects
        return None if tolerated is None else read_limit(tolerated, self.session.facts.rows)

    @cached_property
    def _reject_report(self) -> RejectReport | None:
        if self.reject_table is None:
            return None
        return RejectReport(self.reject_table, self._reject_limit, self._target.final_connection, self.log)

    def _isolated(self, function: RowFunction) -> RowFunction:
        config = self.config
        if not config.isolate_failures and config.reject_table is None:
            return function
        offset = 1 + len(self._unique_key.columns) if config.is_in_place else 0
        return IsolateFailures(function, config.reject_table is not None, offset)

    @property
    def written(self) -> tuple[Any, ...]:
        """What identifies the target, and the order in which rows are read, because a retry continues in it."""
        server = [self._target.parameters.get(name) for name in ("host", "port", "dbname")]
        return (server, repr(self.sink), self._unique_key.names)

    @property
    def _unique_key(self) -> Key:
        return find_unique_key(self.session.facts)

    @property
    def functions(self) -> tuple[Any, ...]:
        """The user's function."""
        return (self.config.map_row, self.config.map_batch)

    @property
    def secrets(self) -> Mapping[str, str]:
        """The secrets of both connections."""
        return join_secrets(self.session.parameters, self._target.parameters)

    @property
    def ledger_session(self) -> TargetSession:
        """The session with the target: the ledger is in its database, so that both are written in one transaction."""
        return self._target

    @cached_property
    def limit(self) -> ConnectionLimit:
        """The connections to the source. Each worker has another one to the target."""
        if self._target.is_same_server:
            return self.find_limit(self.session.connection, per_call=2)
        limit = self.find_limit(self.session.connection)
        target = self._target_limit
        parts = (*limit.parts, *(f"target: {part}" for part in target.parts))
        return replace(limit, limit=min(limit.limit, target.limit), parts=parts)

    @cached_property
    def _target_limit(self) -> ConnectionLimit:
        return self.find_limit(self._target.connection)

    @property
    def _target_slots(self) -> int | None:
        if not self._target.is_same_server:
            return self._target_limit.slots
        # The slot of the worker's other connection stands for both: two workers that each wait for a second slot would
        # wait for each other. A connection of a pooler has no slot.
        return self.limit.slots if is_pooled(self.session.connection) else None

    @property
    def _function(self) -> RowFunction:
        config, sink = self.config, self.sink
        target, read = self._target.target, tuple(self.source.columns)
        parameter = "update_columns" if config.is_in_place else "target_columns"
        rows = RowFormat(read, target.columns, config.row_format == "dict", parameter)
        if config.batch_format is not None:
            rows = BatchRows(
                read,
                target.columns,
                parameter=parameter,
                batch_format=config.batch_format,
                json_columns=target.json_columns,
            )
        if isinstance(sink, UpdateInPlace):
            width = 1 + len(sink.key)
            if config.map_row is not None:
                return UpdateRows(EachRow(self.function), rows, width)
            return UpdateRows(self.function, rows, width, config.batch_size)
        if config.map_row is not None:
            return MapRow(self.function, rows)
        return MapBatch(self.function, rows, config.batch_size)

    def _check_repeatable(self) -> None:
        """Check that a range can be updated in place twice, if there is no ledger.

        :raises InvalidParameterError: if a column is both read and written.
        """
        both = self._read_and_written if self.config.is_in_place and self.ledger is None else []
        if both:
            raise InvalidParameterError(
                "ledger",
                f"is required, because {both[0]} is read and written: a retry would compute it from its new value.",
                'Name a table, which is created: ledger="public.burla_ledger". Or read other columns.',
            )

    @cached_property
    def _read_and_written(self) -> list[str]:
        """The columns that the function computes, and that it may get."""
        columns = self.source.columns
        expressions = " ".join(columns.values()).lower() if isinstance(columns, Mapping) else ""
        # The name of the table, other than before a column, stands for all columns.
        reads_all = re.search(rf'{_word(self.source.table)}(?!"?\s*\.\s*["\w])', expressions)
        read = expressions or " ".join(columns).lower()
        generated = read_generated(self._target.connection, self._target.target)
        read += " " + " ".join(text for name, text in generated.items() if re.search(_word(name), read)).lower()
        return [name for name in self._target.target.columns if reads_all or re.search(_word(name), read)]


def _word(name: str) -> str:
    """Return a pattern that finds a name in SQL in lower case, but not in a longer name."""
    return rf"(?<!\w){re.escape(name.lower())}(?!\w)"
