"""One try of a BurlaPostgresTransformOperator: a table job whose ranges write to a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from burla_provider.combine.combiners import Combiner, SumByKey
from burla_provider.database.connection_limit import ConnectionLimit
from burla_provider.database.redact import join_secrets
from burla_provider.database.settings import SessionSettings
from burla_provider.ranges.key import Key
from burla_provider.ranges.key_choice import choose_key
from burla_provider.task.lineage import TableLineage
from burla_provider.task.session import TaskSession
from burla_provider.task.table_job import TableJob
from burla_provider.task.target import TargetSession
from burla_provider.worker.processors import RangeProcessor, Transform
from burla_provider.worker.row_functions import MapBatch, MapRow, RowFormat, RowFunction
from burla_provider.worker.target_writer import TargetWriter

if TYPE_CHECKING:
    from burla_provider.task.job_runner import JobRunner
    from burla_provider.task.transform_config import TransformJobConfig


class TransformJob(TableJob):
    """Write what a function makes of the rows of a table.

    :param target: the session with the target's database.
    """

    config: TransformJobConfig

    continues_in_key_order: ClassVar[bool] = True

    def __init__(
        self,
        config: TransformJobConfig,
        runner: JobRunner,
        session: TaskSession,
        lineage: TableLineage,
        outlets: Sequence[Any],
        target: TargetSession,
    ) -> None:
        super().__init__(config, runner, session, lineage, outlets)
        self._target = target
        lineage.add_output(target.target.schema, target.target.table, target.connection.info)

    @cached_property
    def processing(self) -> tuple[RangeProcessor, Combiner]:
        """How a range is processed, and how the counts of all ranges are added up."""
        config, target = self.config, self._target
        settings = SessionSettings(
            name=target.name,
            statement_timeout=config.statement_timeout,
            lock_timeout=config.lock_timeout,
            idle_in_transaction_session_timeout=config.idle_in_transaction_session_timeout,
            inherited=target.settings,
        )
        writer = TargetWriter(target.parameters, settings, target.sink, self.ledger, self._target_slots)
        return Transform(self._function, writer, self._unique_key), SumByKey()

    @property
    def written(self) -> tuple[Any, ...]:
        """What identifies the target."""
        server = [self._target.parameters.get(name) for name in ("host", "port", "dbname")]
        return (server, repr(self._target.sink))

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
        limit = self.find_limit(self.session.connection)
        if self._target.is_same_server:
            parts = (*limit.parts, "two per worker")
            return ConnectionLimit(max(1, limit.limit // 2), max(1, limit.slots // 2), parts)
        target = self._target_limit
        parts = (*limit.parts, *(f"target: {part}" for part in target.parts))
        return replace(limit, limit=min(limit.limit, target.limit), parts=parts)

    @cached_property
    def _target_limit(self) -> ConnectionLimit:
        return self.find_limit(self._target.connection)

    @property
    def _target_slots(self) -> int | None:
        # On the same server, the slot of the worker's other connection stands for both: two workers that each wait for
        # a second slot would wait for each other.
        return None if self._target.is_same_server else self._target_limit.slots

    @property
    def _function(self) -> RowFunction:
        config = self.config
        rows = RowFormat(tuple(self.source.columns), self._target.target.columns, config.row_format == "dict")
        if config.map_row is not None:
            return MapRow(config.map_row, rows)
        return MapBatch(config.function, rows, config.batch_size)

    @property
    def _unique_key(self) -> Key:
        """The best unique key of the source whose columns cannot be NULL."""
        facts = self.session.facts
        if facts.is_tree and facts.kind != "p":  # the key of a table is not unique among its children
            return Key()
        key = choose_key(facts, None)
        return Key() if key.nullable else key
