"""A plan as plain data, for a retry that goes on with the very same ranges."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from burla_provider.ranges.key import Key, KeyColumn
from burla_provider.ranges.key_range import KeyRange
from burla_provider.ranges.plan import largest_first


class Plan(Protocol):
    """What running a job needs of its plan: a new ``RangePlan`` has it, and a stored one."""

    @property
    def schema(self) -> str: ...
    @property
    def table(self) -> str: ...
    @property
    def key(self) -> Key: ...
    @property
    def ranges(self) -> tuple[KeyRange, ...]: ...
    def largest_first(self) -> list[KeyRange]: ...
    def as_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class StoredPlan:
    """The ranges of an earlier plan, and what was said of it.

    :param summary: its ``as_dict()``.
    :param text: its ``str()``.
    """

    schema: str
    table: str
    key: Key
    ranges: tuple[KeyRange, ...]
    summary: dict[str, Any]
    text: str

    def largest_first(self) -> list[KeyRange]:
        return largest_first(self.ranges)

    def as_dict(self) -> dict[str, Any]:
        return self.summary

    def __str__(self) -> str:
        return self.text


def to_record(plan: Plan) -> dict[str, Any]:
    """The plan as JSON data."""
    return {
        "schema": plan.schema,
        "table": plan.table,
        "key": [asdict(column) for column in plan.key.columns],
        "items": [key_range.to_item() for key_range in plan.ranges],
        "summary": plan.as_dict(),
        "text": str(plan),
    }


def from_record(record: dict[str, Any]) -> StoredPlan:
    """The inverse of ``to_record``."""
    columns = (column | {"operators": tuple(column.get("operators", ()))} for column in record["key"])
    key = Key(tuple(KeyColumn(**column) for column in columns))
    ranges = tuple(KeyRange.from_item(key, index, item) for index, item in enumerate(record["items"]))
    return StoredPlan(record["schema"], record["table"], key, ranges, record["summary"], record["text"])


def longer(plan: StoredPlan, more: Plan) -> StoredPlan:
    """The plan with the ranges of another one behind its own, which keep their numbers."""
    count = len(plan.ranges)
    added = tuple(replace(one, index=count + number) for number, one in enumerate(more.ranges))
    old, new = plan.summary, more.as_dict()
    summary = {
        **(new if added else old),
        "lower": old["lower"],
        "first": old["first"] or new["first"],
        "ranges": count + len(added),
        "expected_rows": old["expected_rows"] + new["expected_rows"],
    }
    return replace(plan, ranges=plan.ranges + added, summary=summary, text=f"{plan}\n\nand behind it\n{more}")
