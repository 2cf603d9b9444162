"""Choose the strategy that splits a table, and explain the choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from psycopg import sql

from burla_provider.database.wording import quantity
from burla_provider.ranges.catalog import STORED_KINDS
from burla_provider.ranges.key import CTID
from burla_provider.ranges.ordinals import ordinal_codec
from burla_provider.ranges.plan_request import AUTO, PlanRequest
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import MIN_BYTES, RangeSizing
from burla_provider.ranges.strategies.keyset import MAX_STEPS
from burla_provider.ranges.strategies.probed import can_probe

_BUCKETS_PER_RANGE = 1.5
"""Minimum number of histogram buckets for a key that cannot be cut inside of a bucket."""

_SHORT_WALK = 500_000
"""Rows. Up to this number, a walk over the index is faster than probes that find out whether a walk is needed."""

_LONG_WALK = 100_000_000
"""Rows. A walk over this number of index entries takes half a minute. A few uneven ranges are better."""

_LOW_CORRELATION = 0.1
"""Below this correlation, rows with neighboring keys are anywhere on disk."""

_LARGE_TABLE = 2**30
"""Bytes. In a smaller table, the order of the rows costs a few seconds at most."""

_MANY_READS = 2
"""Ranges that read the same page."""

_MANY_LOCKS = 500
"""Partitions that a range may lock without a hint. By default, a server has room for about 64 locks for each of 100
connections, https://www.postgresql.org/docs/current/runtime-config-locks.html."""

_MAX_HINTS = 5


@dataclass(frozen=True)
class StrategyChoice:
    """A strategy, and the reason for it: a clause, such as "the statistics are fresh"."""

    strategy: str
    reason: str


def choose_strategy(
    connection: PlannerConnection, profile: RelationProfile, sizing: RangeSizing, request: PlanRequest
) -> StrategyChoice:
    """Return the requested strategy, or else the cheapest one that gives balanced ranges."""
    if profile.window.is_empty or not profile.rows:
        return StrategyChoice("single", "there are no rows" if profile.key == CTID else "the window contains no keys")
    if request.split != AUTO:
        return StrategyChoice(request.split, f"set by split={request.split!r}")
    if profile.key == CTID:
        return _choose_for_pages(profile, sizing, request)
    if not profile.key.columns:
        return StrategyChoice("single", "the table is small and has no unique key")
    return _choose_for_key(connection, profile, sizing, refine=request.refine)


def explain_choices(choices: Sequence[StrategyChoice]) -> str:
    """Return one sentence about the choices for all relations."""
    reasons = list(dict.fromkeys(choice.reason for choice in choices))
    if not reasons:
        return "No partition has rows in the window."
    if len(reasons) == 1:
        return _sentence(reasons[0])
    first_reasons = {choice.strategy: choice.reason for choice in reversed(choices)}
    counts = Counter(choice.strategy for choice in choices)
    return _sentence(
        "; ".join(
            f"{quantity(number, 'partition')} by {strategy}: {first_reasons[strategy]}"
            for strategy, number in counts.items()
        )
    )


def collect_hints(
    profiles: Sequence[RelationProfile],
    sizing: RangeSizing,
    *,
    row_security: bool = False,
    by_partition: bool = True,
    allows_pages: bool = True,
) -> tuple[str, ...]:
    """Return at most five sentences about what makes the job slow, and what to do about it.

    :param row_security: whether policies decide which rows the role sees.
    :param by_partition: whether a table with fewer partitions than ranges is split partition by partition.
    :param allows_pages: whether the pages of the table could be read instead of its key, in one snapshot.
    """
    options = {"row_security": row_security, "by_partition": by_partition}
    hints = (hint for profile in profiles for hint in _hints(profile, sizing, **options))
    pages_hints = _pages_hints(profiles, sizing) if allows_pages else ()
    return tuple(islice(dict.fromkeys([*pages_hints, *hints]), _MAX_HINTS))


def _choose_for_pages(profile: RelationProfile, sizing: RangeSizing, request: PlanRequest) -> StrategyChoice:
    if sizing.ranges_for(profile.rows) == 1:
        return StrategyChoice("single", _fits(profile.rows))
    if request.whole_query is None:
        reason = "the table has no unique key, so it is split by physical pages, which requires a shared snapshot"
        return StrategyChoice("pages", reason)
    return StrategyChoice("pages", "the job needs no key, and in one snapshot each physical page is read only once")


def _fits(rows: float) -> str:
    text = quantity(rows, "row")
    return f"about {text} {'fits' if text == '1 row' else 'fit'} into one range"


def _choose_for_key(
    connection: PlannerConnection, profile: RelationProfile, sizing: RangeSizing, *, refine: bool
) -> StrategyChoice:
    distrust_reason = profile.distrust_reason
    if _is_small(connection, profile, sizing, distrust_reason):
        return StrategyChoice("single", _fits(profile.rows))
    counted = "the planner scanned the index"
    if not profile.is_indexed:
        counted = "the planner sorted the table once, because no index has the order of the key"
    if refine:
        return StrategyChoice("keyset", f"refine requests exact ranges, so {counted}")
    coarseness = _coarseness(profile, sizing)
    problem = distrust_reason or coarseness
    if problem is None:
        return StrategyChoice(
            "histogram", f"the statistics are fresh, so the planner read {_describe_reads(profile, sizing)}"
        )
    # A walk of more steps takes longer than probes.
    is_walk_better = coarseness is not None and sizing.ranges_for(profile.rows) <= MAX_STEPS
    if can_probe(profile) and profile.rows > (_LONG_WALK if is_walk_better else _SHORT_WALK):
        reason = f"{problem}, so the planner probed the index and scanned it where rows are unevenly spread"
        return StrategyChoice("probed", reason)
    if not profile.is_indexed and profile.statistics and profile.statistics.distribution:
        return StrategyChoice("histogram", f"{problem}, but there is no index that the planner could scan instead")
    return StrategyChoice("keyset", f"{problem}, so {counted}")


def _describe_reads(profile: RelationProfile, sizing: RangeSizing) -> str:
    if len(profile.key.columns) == 1 or _most_common_rows(profile) <= sizing.target:
        return "no rows"
    return f"only the index entries of frequent values of {profile.key.names[0]}"


def _most_common_rows(profile: RelationProfile) -> float:
    """Return how many rows have the most common value of the key's first column; 0 if unknown."""
    distribution = profile.statistics.distribution if profile.statistics else None
    if distribution is None:
        return 0.0
    return distribution.most_common.frequency / distribution.rows * profile.rows


def _is_small(
    connection: PlannerConnection, profile: RelationProfile, sizing: RangeSizing, distrust_reason: str | None
) -> bool:
    """Return whether the relation's rows fit into one range."""
    if sizing.ranges_for(profile.rows) > 1:
        return False
    if distrust_reason is None or sizing.ranges == 1:
        return True
    are_stored = all(leaf.kind in STORED_KINDS for leaf in profile.leaves)
    if not profile.is_indexed and profile.window.is_bounded and are_stored:
        return sum(leaf.bytes for leaf in profile.leaves) <= MIN_BYTES
    # The estimate may be wrong by any factor, so check whether there are more rows.
    statement = sql.SQL("SELECT EXISTS (SELECT FROM {} AS origin WHERE {} OFFSET {})").format(
        profile.from_sql, profile.window_condition, sql.Literal(int(sizing.min_rows))
    )
    return not connection.fetch_value(statement)


def _coarseness(profile: RelationProfile, sizing: RangeSizing) -> str | None:
    """Return why the statistics are too coarse for ranges of this size; None if they are not."""
    if profile.statistics is None or profile.statistics.distribution is None:
        return None
    if all(bound.bucket_rows == 0 for bound in profile.statistics.distribution.bounds):
        return None  # The statistics know every key.
    ranges, column = sizing.ranges_for(profile.rows), profile.key.columns[0]
    buckets = profile.statistics.bound_count
    if ranges > (buckets if ordinal_codec(column) else buckets / _BUCKETS_PER_RANGE):
        return f"{ranges:,} ranges are finer than the statistics of {column.name}"
    return None


def _hints(profile: RelationProfile, sizing: RangeSizing, *, row_security: bool, by_partition: bool) -> Iterator[str]:
    if profile.sort_key.columns and profile.pages and not profile.is_indexed:
        # Another index, or one in another order, may help: the server's plan of a range is not known here.
        cause = ", or row security prevents the server from seeking in it" if row_security else ""
        effect = "Every range reads the whole table, unless another index finds its rows."
        yield f"No index has the order of {profile.key}{cause}. {effect}"
    if profile.relation is None and len(profile.leaves) > _MANY_LOCKS:
        more = "Request more ranges than partitions" if by_partition else "Use a key that begins with the partition key"
        yield (
            f"Every range may lock all {len(profile.leaves):,} partitions, and the server's locks are limited"
            f" (max_locks_per_transaction). {more}, or process fewer ranges at a time."
        )
    if profile.statistics is None:
        return
    distribution, rows = profile.statistics.distribution, _most_common_rows(profile)
    if distribution is not None and len(profile.key.columns) == 1 and rows > 2 * sizing.target:
        value = distribution.most_common.bound[0]
        yield f"About {rows:,.0f} rows have the same key ({value[:80]}). They stay in one range."


def _pages_hints(profiles: Sequence[RelationProfile], sizing: RangeSizing) -> Iterator[str]:
    """Yield how often ranges of the key read each page of a large table, if its rows are in another order."""
    scattered = [
        profile for profile in profiles if profile.statistics and abs(profile.statistics.correlation) < _LOW_CORRELATION
    ]
    pages = sum(profile.pages for profile in scattered)
    if not pages or sum(leaf.bytes for profile in scattered for leaf in profile.leaves) <= _LARGE_TABLE:
        return
    rows = sum(profile.rows for profile in scattered)
    ranges = max(rows / len(scattered) / sizing.target, 1)
    # A range has each row of a page with the probability 1 / ranges.
    reads = ranges * (1 - (1 - 1 / ranges) ** (rows / pages))
    if reads >= _MANY_READS:
        yield (
            f"Rows are not stored in the order of {scattered[0].key}: about {reads:,.0f} ranges read each page."
            " Without key and with split='pages', in one snapshot, each page is read once."
        )


def _sentence(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}."
