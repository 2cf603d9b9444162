"""Failed items, grouped by what went wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from burla_provider.task.message_pattern import message_pattern
from burla_provider.task.remedies import advice_for_group
from burla_provider.task.short_text import SEE_LOG
from burla_provider.worker.errors import cut
from burla_provider.worker.outcome import Failure, Outcome

MAX_GROUPS = 50
"""Groups in the report."""
_MIN_GROUPS = 5
"""Groups in the report of a task that runs, however long their texts are."""
MAX_RANGES = 100
"""Items in the report, of all groups together."""

_MAX_KINDS = 200
"""Beyond this number, further kinds are distinguished by the class of the error only."""
_OTHER_MESSAGES = "(other messages)"
_MAX_CLASSES = 100
"""Beyond this number of further classes, all other errors are one kind."""
_OTHER_ERRORS = "(other errors)"
_MAX_KEYS = 1_000
"""Items per group whose keys are remembered."""
_MAX_WORKERS = 5
_MAX_WORKER_CHARS = 40
_MAX_NAME_CHARS = 120
_MAX_CHARS = 16_000
"""Characters of the part of a report of a task that runs: Airflow's state store accepts 64 KB."""


@dataclass(frozen=True)
class RangePlace:
    """How to find one item again. See ``reproduce.py``.

    :param where: the condition that selects its rows, SQL.
    :param arguments: arguments of an operator for a run of that range alone.
    :param key_range: the range as a Python expression.
    :param input: the input of a map as a Python expression.
    """

    where: str | None = None
    arguments: str | None = None
    key_range: str | None = None
    input: str | None = None


def _unknown_place(_index: int) -> RangePlace:
    return RangePlace()


class _Item(NamedTuple):
    number: int
    attempts: int


@dataclass
class FailureGroup:
    """Failed items whose errors have the same class, SQLSTATE and pattern.

    :param failure: of the item that failed first, with its traceback.
    :ivar attempts: the highest number of attempts of one of the items.
    """

    failure: Failure
    pattern: str
    first: float
    last: float = 0.0
    attempts: int = 0
    items: list[_Item] = field(default_factory=list)
    workers: dict[str, None] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of items."""
        return len(self.items)

    def add(self, outcome: Outcome, failure: Failure) -> None:
        """Add an item."""
        self.last = time.time()
        self.attempts = max(self.attempts, outcome.attempts)
        self.items.append(_Item(outcome.index, outcome.attempts))
        if outcome.worker:
            self.workers[outcome.worker] = None
        if failure.keys and len(self.keys) < _MAX_KEYS:
            self.keys[outcome.index] = failure.keys


class _Limits(NamedTuple):
    """Characters, unless it says otherwise."""

    groups: int = MAX_GROUPS  # a number
    ranges: int = MAX_RANGES  # a number
    message: int = 2_000
    tracebacks: int = 400_000  # of all groups together

    def smaller(self) -> _Limits:
        groups = max(self.groups * 3 // 4, _MIN_GROUPS)
        return _Limits(groups, max(self.ranges // 2, groups), max(self.message // 2, 100), self.tracebacks * 2 // 3)


class FailureGroups:
    """Groups failed outcomes by class, SQLSTATE and pattern of the message. An outcome listener.

    One traceback is kept per group, and small records of the items.

    :param describe: returns an item's name, given its number.
    :param unit: "range" or "input".
    :ivar place: returns how to find an item again, given its number.
    """

    def __init__(self, describe: Callable[[int], str], unit: str = "range") -> None:
        self.unit = unit
        self.place: Callable[[int], RangePlace] = _unknown_place
        self._describe = describe
        self._groups: dict[tuple[str, str | None, str], FailureGroup] = {}
        self._group_of: dict[int, FailureGroup] = {}
        self._positions: dict[int, int] | None = None
        self._shown = MAX_GROUPS

    @property
    def count(self) -> int:
        """Number of failed items."""
        return len(self._group_of)

    def __iter__(self) -> Iterator[FailureGroup]:
        """Iterate over the groups, the most frequent first."""
        return iter(sorted(self._groups.values(), key=lambda group: -group.count))

    def add(self, outcome: Outcome) -> None:
        """Add an outcome. One that succeeded changes nothing."""
        failure = outcome.failure
        if failure is None or outcome.index in self._group_of:
            return
        pattern = message_pattern(failure, self._describe(outcome.index))
        key = failure.type, failure.sqlstate, pattern
        if key not in self._groups and len(self._groups) >= _MAX_KINDS:
            key = failure.type, failure.sqlstate, _OTHER_MESSAGES
        if key not in self._groups and len(self._groups) >= _MAX_KINDS + _MAX_CLASSES:
            failure = replace(failure, type=_OTHER_ERRORS, sqlstate=None)
            key = failure.type, failure.sqlstate, _OTHER_MESSAGES
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = FailureGroup(failure, key[2], first=time.time())
        group.add(outcome, failure)
        self._group_of[outcome.index] = group
        self._positions = None

    def group(self, index: int) -> FailureGroup:
        """Return the group of a failed item."""
        return self._group_of[index]

    def group_of(self, index: int) -> int:
        """Return the position of a failed item's group in the last ``as_dict``; -1 if the report does not have it."""
        group = self._group_of.get(index)
        if group is None:
            return -1
        if self._positions is None:
            self._positions = {id(listed): position for position, listed in enumerate(self)}
        position = self._positions[id(group)]
        return position if position < self._shown else -1

    def name(self, index: int) -> str:
        """Return the name of a failed item, with its keys if they are known."""
        keys = self._group_of[index].keys.get(index)
        name = self._describe(index)
        return f"{name} with {keys}" if keys else name

    def as_dict(self, *, is_final: bool = False) -> dict[str, Any]:
        """Return the part ``failures`` of the report.

        :param is_final: whether the task has ended; otherwise the part has at most ``_MAX_CHARS`` characters as JSON.
        """
        limits = _Limits() if is_final else _Limits(message=600, tracebacks=12_000)
        groups = self._listed(limits)
        while not is_final and limits.groups > _MIN_GROUPS and len(json.dumps(groups)) > _MAX_CHARS:
            limits = limits.smaller()
            groups = self._listed(limits)
        self._shown = len(groups)
        return {"count": self.count, "kinds": len(self._groups), "groups": groups}

    def _listed(self, limits: _Limits) -> list[dict[str, Any]]:
        groups = list(self)[: limits.groups]
        ranges = share([group.count for group in groups], limits.ranges)
        tracebacks = share([len(group.failure.traceback) for group in groups], limits.tracebacks)
        sizes = zip(groups, ranges, tracebacks, strict=True)
        return [self._as_dict(group, limits.message, count, characters) for group, count, characters in sizes]

    def _as_dict(self, group: FailureGroup, message: int, ranges: int, traceback: int) -> dict[str, Any]:
        failure = group.failure
        return {
            "type": failure.type[:_MAX_NAME_CHARS],
            "sqlstate": failure.sqlstate,
            "pattern": group.pattern[:message],
            "message": cut(failure.message, message, SEE_LOG),
            "count": group.count,
            "first": round(group.first, 1),
            "last": round(group.last, 1),
            "workers": [name[:_MAX_WORKER_CHARS] for name in list(group.workers)[:_MAX_WORKERS]],
            "worker_count": len(group.workers),
            "attempts": group.attempts,
            "rows": cut(failure.rows, message, SEE_LOG) or None,
            "traceback": cut(failure.traceback, traceback, SEE_LOG),
            "advice": advice_for_group(failure) or None,
            "ranges": [self._range(item, message) for item in group.items[:ranges]],
        }

    def _range(self, item: _Item, limit: int) -> dict[str, Any]:
        place = {name: text for name, text in asdict(self.place(item.number)).items() if not text or len(text) <= limit}
        named = {"index": item.number, "item": cut(self.name(item.number), _MAX_NAME_CHARS), "attempts": item.attempts}
        return named | asdict(RangePlace(**place))


def share(sizes: Sequence[int], limit: int) -> list[int]:
    """Return how much of ``limit`` each gets: what it needs, or an equal share if that is not possible."""
    shares = [0] * len(sizes)
    smallest_first = sorted(range(len(sizes)), key=lambda position: sizes[position])
    for number, position in enumerate(smallest_first):
        shares[position] = min(sizes[position], limit // (len(sizes) - number))
        limit -= shares[position]
    return shares
