"""One try of a BurlaPostgresTransformOperator: a table job whose ranges write to a target."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from burla_provider.combine.combiners import Combiner, SumByKey
from burla_provider.database.connect import is_pooled
from burla_provider.database.connection_limit import ConnectionLimit
from burla_provider.database.redact import join_secrets
from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key import Key
from burla_provider.task.lineage import TableLineage
from burla_provider.task.session import TaskSession, worker_settings
from burla_provider.task.table_job import TableJob
from burla_provider.task.target import TargetSession, find_unique_key, read_generated
from burla_provider.worker.batch_rows import BatchRows
from burla_provider.worker.processors import RangeProcessor, Transform
from burla_provider.worker.row_functions import MapBatch, MapRow, RowFormat, RowFunction
from burla_provider.worker.sinks import UpdateInPlace
from burla_provider.worker.target_writer import TargetWriter
from burla_provider.worker.update_functions import EachRow, UpdateRows

if TYPE_CHECKING:
    from burla_provider.ranges.plan import Plan
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
        writer = TargetWriter(target.parameters, settings, target.sink, self.ledger, self._target_slots, lock)
        counts = SumByKey()
        counts.add(-1, dict.fromkeys((*target.sink.counts, "rows_filtered"), 0))  # also if no row is written
        return Transform(self._function, writer, self._unique_key, reads_xmin=config.is_in_place), counts

    def make_monitor(self, plan: Plan, store: JobStore, listeners: Sequence[OutcomeListener]) -> JobMonitor:
        """Return a monitor that also pauses the workers."""
        monitor = super().make_monitor(plan, store, listeners)
        monitor.pause = self._pause
        return monitor

    @property
    def written(self) -> tuple[Any, ...]:
        """What identifies the target, and the order in which rows are read, because a retry continues in it."""
        server = [self._target.parameters.get(name) for name in ("host", "port", "dbname")]
        return (server, repr(self._target.sink), self._unique_key.names)

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
        config, sink = self.config, self._target.sink
        target, read = self._target.target, tuple(self.source.columns)
        rows = RowFormat(read, target.columns, config.row_format == "dict")
        if config.batch_format is not None:
            rows = BatchRows(read, target.columns, batch_format=config.batch_format, json_columns=target.json_columns)
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
        if not self.config.is_in_place or self.ledger is not None:
            return
        columns = self.source.columns
        expressions = " ".join(columns.values()).lower() if isinstance(columns, Mapping) else ""
        # The name of the table, other than before a column, stands for all columns.
        reads_all = re.search(rf'{_word(self.source.table)}(?!"?\s*\.\s*["\w])', expressions)
        read = expressions or " ".join(columns).lower()
        generated = read_generated(self._target.connection, self._target.target)
        read += " " + " ".join(text for name, text in generated.items() if re.search(_word(name), read)).lower()
        both = [name for name in self._target.target.columns if reads_all or re.search(_word(name), read)]
        if both:
            raise InvalidParameterError(
                "ledger",
                f"is required, because {both[0]} is read and written: a retry would compute it from its new value.",
                'Name a table, which is created: ledger="public.burla_ledger". Or read other columns.',
            )


def _word(name: str) -> str:
    """Return a pattern that finds a name in SQL in lower case, but not in a longer name."""
    return rf"(?<!\w){re.escape(name.lower())}(?!\w)"
