"""Plan a table job: split the rows that it reads into ranges."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import TYPE_CHECKING

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.plan_request import PlanRequest
from burla_provider.ranges.planner import plan_table
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.window import WindowLimits
from burla_provider.task.session import TaskSession, not_covered
from burla_provider.task.whole_query import whole_query

if TYPE_CHECKING:
    from burla_provider.ranges.plan import RangePlan
    from burla_provider.task.config import TableConfig
    from burla_provider.worker.processors import RangeProcessor
    from burla_provider.worker.source import Source


def plan_job(
    config: TableConfig,
    session: TaskSession,
    source: Source,
    limits: WindowLimits,
    parallelism: int | None,
    *,
    takes_range: bool,
    processor: Callable[[], RangeProcessor],
) -> RangePlan:
    """Return a new plan of the table as it is now.

    :param source: the rows.
    :param limits: the window.
    :param parallelism: calls at the same time; None: unknown.
    :param takes_range: whether the function gets the range, and reads the rows itself.
    :param processor: returns how a range is processed.
    :raises InvalidParameterError: if the table cannot be split with these parameters.
    """
    # In another snapshot, rows may be in other pages and in other partitions, also if their keys are the same.
    is_one_snapshot = session.snapshot is not None and not config.continues_plan
    # The queries of process_range name the table, not its partitions.
    by_partition = is_one_snapshot and not takes_range
    # A window may exclude partitions, which only the plan shows.
    if not (config.has_window or limits.lower):
        _check_covered(session, {None}, by_partition)
    # Functions use the ids and the condition of a range, also to write.
    needs_no_key = is_one_snapshot and not takes_range and not config.requires_key
    request = PlanRequest(
        key=config.key or None,
        limits=limits,
        where=source.where,
        split=config.split,
        sizing=RangeSizing(config.rows_per_range, config.ranges, parallelism),
        refine=config.refine,
        # A table that grows during the run would never be finished.
        freeze_upper=config.requires_key,
        by_partition=by_partition,
        # The ranges may be ranges of pages although the table has a key.
        whole_query=(lambda key: whole_query(source, processor(), key)) if needs_no_key else None,
    )
    plan = plan_table(session.connection, session.facts, request)
    if plan.needs_snapshot and session.snapshot is None:
        raise InvalidParameterError(
            "key",
            f"{plan.schema}.{plan.table} has no suitable key, and pages need a snapshot.",
            'Name a column to split by, or use consistency="snapshot".',
        )
    _check_covered(session, {key_range.relation for key_range in plan.ranges}, by_partition)
    return plan


def _check_covered(session: TaskSession, relations: Set[tuple[str, str] | None], by_partition: bool) -> None:
    """Check that the snapshot covers all partitions that are read.

    :param relations: schema and name of the partitions; None stands for the whole table.
    :raises InvalidParameterError: if it does not cover one.
    """
    if foreign := session.foreign if None in relations else session.foreign & relations:
        raise not_covered(foreign, by_partition=by_partition)
