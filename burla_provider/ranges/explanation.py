"""Why a plan is as it is, and what would make it better, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.strategy_choice import Choice

_RANDOM = 0.1
"""Below such a correlation, keys that are neighbours lie anywhere on disk."""

_BIG = 4 * 2**30
"""Bytes of a table that is more likely on disk than in memory."""

_MANY_LOCKS = 500
"""Partitions that each of a dozen ranges may lock: about what a server has room for by default, 64 for each of 100
connections, https://www.postgresql.org/docs/current/runtime-config-locks.html."""

_HINTS = 5


def reason_of(choices: Sequence[Choice]) -> str:
    """One sentence for the choices of all pieces."""
    reasons = list(dict.fromkeys(choice.reason for choice in choices))
    if len(reasons) < 2:
        return _sentence(reasons[0] if reasons else "no partition has a row in the window")
    first = {choice.strategy: choice.reason for choice in reversed(choices)}
    numbers = Counter(choice.strategy for choice in choices)
    return _sentence("; ".join(f"{number:,} partitions by {name}: {first[name]}" for name, number in numbers.items()))


def hints_of(pieces: Sequence[RelationProfile], size: RangeSizing, *, row_security: bool = False) -> tuple[str, ...]:
    """What a person should know or could do, at most a handful of sentences.

    :param row_security: whether policies decide which rows the role sees.
    """
    hints = (hint for piece in pieces for hint in _hints(piece, size, row_security=row_security))
    return tuple(islice(dict.fromkeys(hints), _HINTS))


def _hints(piece: RelationProfile, size: RangeSizing, *, row_security: bool) -> Iterator[str]:
    if piece.sort_key.columns and piece.pages and not piece.is_indexed:
        # One that is in another order, or of another kind, may serve: what the server would do is not asked.
        whole = "every range reads the whole table, unless another index finds its rows"
        why = ", or row security keeps the server from seeking in it" if row_security else ""
        yield f"No index is in the order of {piece.key}{why}: {whole}."
    if piece.relation is None and len(piece.leaves) > _MANY_LOCKS:
        locks = f"Every range may lock all {len(piece.leaves):,} partitions, and a server has room for so many only"
        yield f"{locks} (max_locks_per_transaction): ask for more ranges than partitions, or for few at the same time."
    statistics = piece.statistics
    if statistics is None:
        return
    if sum(leaf.bytes for leaf in piece.leaves) > _BIG and abs(statistics.correlation) < _RANDOM:
        yield f"On disk, rows are in no order of {piece.key}: with one snapshot, split='pages' reads each page once."
    if statistics.distribution is None or len(piece.key.columns) > 1:
        return
    rows = statistics.distribution.most_common.mass / statistics.distribution.rows * piece.rows
    if rows > 2 * size.target:
        value = statistics.distribution.most_common.bound[0]
        yield f"About {rows:,.0f} rows have the same key, {value[:80]}, so that they stay in one range."


def _sentence(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}."
