"""Choose the key to split a table by: columns, the physical pages, or none."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.catalog import STORED_KINDS, Column, TableFacts
from burla_provider.ranges.key import CTID, Key, KeyColumn
from burla_provider.ranges.ordinals import ordinal_codec
from burla_provider.ranges.pages_choice import pages_problem, prefers_pages, why_key_is_better
from burla_provider.ranges.plan_request import AUTO, PlanRequest
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.sizing import MIN_BYTES, RangeSizing

_WITHOUT_NOT_NULL = ("v", "m")
"""``pg_class.relkind`` of relations whose columns cannot be declared NOT NULL."""


class KeyChoice(NamedTuple):
    """The key to split by, and why it is not the physical pages: a sentence, or "" if that needs no explanation."""

    key: Key
    reason: str = ""


def choose_split_key(connection: PlannerConnection, facts: TableFacts, request: PlanRequest) -> KeyChoice:
    """Return the key to split by: columns, physical pages, or no columns for a table that becomes one range.

    :raises InvalidParameterError: if the table has no key that the request can use.
    """
    if request.split == "pages":
        if problem := pages_problem(facts):
            raise InvalidParameterError("split", problem, "Split by a key.")
        return KeyChoice(CTID)
    key = choose_key(facts, request.key)
    if key.columns and request.whole_query and prefers_pages(facts, request):
        reason = why_key_is_better(connection, facts, key, request.whole_query(key), request.sizing)
        return KeyChoice(CTID) if reason is None else KeyChoice(key, reason)
    requires_key = bool(request.limits.given_names) or request.freeze_upper
    if key.columns or (request.split == "single" and not requires_key):
        return KeyChoice(key)
    if request.split != AUTO or requires_key:
        raise _no_key_error(facts)
    if _is_small_table(facts, request.sizing):
        return KeyChoice(Key())
    if problem := pages_problem(facts):
        raise _no_key_error(facts, f" {problem}")
    return KeyChoice(CTID)


def choose_key(facts: TableFacts, key: str | Sequence[str] | None) -> Key:
    """Return the key of these columns. None: the best unique key, or a key without columns if the table has none.

    :raises InvalidParameterError: if a column does not exist, or one of several columns can be NULL.
    """
    if key is None:
        return _best_unique_key(facts)
    names = [key] if isinstance(key, str) else list(key)
    if not names or len(set(names)) < len(names):
        problem = f"must be a column or a list of different columns, got {key!r}."
        raise InvalidParameterError("key", problem, "Name each column once.")
    columns = [_find_column(facts, name) for name in names]
    composite = next((column for column in columns if column.is_composite), None)
    if composite:
        problem = (
            f"{composite.name} has the composite type {composite.type}, and IS NULL is true for some of its values."
        )
        raise InvalidParameterError("key", problem, "Split by another column.")
    nullable = [column.name for column in columns if column.nullable]
    if nullable and len(names) > 1:
        problem = f"{', '.join(nullable)} can be NULL, and ranges of several columns do not include rows with NULL."
        can_be_not_null = facts.kind not in _WITHOUT_NOT_NULL
        advice = "Leave that column out, or make it NOT NULL." if can_be_not_null else "Split by one column."
        raise InvalidParameterError("key", problem, advice)
    return _to_key(columns)


def choose_row_key(facts: TableFacts, split_key: Key) -> Key:
    """Return the key that identifies the rows of ranges of pages in messages.

    It is the primary key, or else another unique key that is NOT NULL. It has no columns if the table has no such key,
    or if the bounds of the ranges are keys.
    """
    key = _best_unique_key(facts)
    return key if split_key == CTID and not key.nullable else Key()


def _best_unique_key(facts: TableFacts) -> Key:
    """Return the primary key, else the best unique key: preferably NOT NULL, one column, of a type with ordinals."""
    unique = [index for index in facts.indexes if index.is_unique]
    columns = [[_find_column(facts, name) for name in index.columns] for index in unique]
    keys = [_to_key(group) for group in columns if not any(column.is_composite for column in group)]
    usable = [key for key in keys if len(key.columns) == 1 or not key.nullable]
    # The sort is stable: among equals, the primary key and the shorter key stay first.
    usable.sort(key=lambda key: (key.nullable, len(key.columns) > 1, ordinal_codec(key.columns[0]) is None))
    primary = next((index.columns for index in facts.indexes if index.is_primary), None)
    return next((key for key in usable if key.names == primary), usable[0] if usable else Key())


def _find_column(facts: TableFacts, name: str) -> Column:
    found = next((column for column in facts.columns if column.name == name), None)
    if found is None:
        names = [column.name for column in facts.columns]
        similar = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
        advice = f"Did you mean {similar[0]}?" if similar else f"Its columns are {', '.join(names[:20])}."
        raise InvalidParameterError("key", f"{facts} has no column {name}.", advice)
    return found


def _to_key(columns: Sequence[Column]) -> Key:
    """Return the key without the facts that only the planner needs: workers get the key."""
    return Key(tuple(KeyColumn(column.name, column.type, column.nullable, column.operators) for column in columns))


def _is_small_table(facts: TableFacts, sizing: RangeSizing) -> bool:
    is_size_requested = sizing.ranges or sizing.rows_per_range
    return not is_size_requested and facts.kind in STORED_KINDS and facts.bytes <= MIN_BYTES


def _no_key_error(facts: TableFacts, problem: str = "") -> InvalidParameterError:
    indexed = sorted({index.columns[0] for index in facts.indexes})
    advice = "Name the column to split by" + (f": there is an index on {', '.join(indexed)}." if indexed else ".")
    return InvalidParameterError("key", f"{facts} is a {facts.kind_name} and has no unique key.{problem}", advice)
