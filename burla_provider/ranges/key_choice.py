"""Which columns a table is split by: the user's, or the best there are."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.catalog import Column, Index, TableFacts
from burla_provider.ranges.key import Key, KeyColumn
from burla_provider.ranges.ordinals import ordinal_codec

_WITHOUT_NOT_NULL = ("v", "m")
"""``pg_class.relkind`` of what cannot have a column declared NOT NULL."""


def choose_key(facts: TableFacts, key: str | Sequence[str] | None) -> Key:
    """The key that was asked for, or else the best unique one: the primary key first, then one without NULLs.

    :return: a key without columns when none was asked for and the table has none.
    :raises InvalidParameterError: there are no such columns, or several of which one may be NULL.
    """
    if key is None:
        return _best(facts)
    names = [key] if isinstance(key, str) else list(key)
    if not names or len(set(names)) < len(names):
        raise InvalidParameterError("key", f"{key!r} is not a list of different columns.", "Name each column once.")
    columns = [_column(facts, name) for name in names]
    composite = next((column for column in columns if column.is_composite), None)
    if composite:
        problem = f"{composite.name} is of the composite type {composite.type}, whose order is not that of IS NULL."
        raise InvalidParameterError("key", problem, "Split by another column.")
    chosen = Key(tuple(map(_plain, columns)))
    loose = [column.name for column in chosen.columns if column.nullable]
    if loose and len(names) > 1:
        raise InvalidParameterError(
            "key",
            f"{', '.join(loose)} may be NULL, and rows with a NULL would be in no range of several columns.",
            "Split by one column."
            if facts.kind in _WITHOUT_NOT_NULL
            else "Leave that column out, or make it NOT NULL.",
        )
    return chosen


def key_columns(facts: TableFacts, key: Key) -> list[Column]:
    """The key's columns with all that the catalog says of them."""
    return [column for name in key.names for column in facts.columns if column.name == name]


def is_unique(facts: TableFacts, key: Key) -> bool:
    """Whether no two rows have the same key, NULLs apart."""
    return any(index.is_unique and set(index.columns) <= set(key.names) for index in facts.indexes)


def _best(facts: TableFacts) -> Key:
    found = [[_column(facts, name) for name in index.columns] for index in _unique(facts)]
    candidates = [
        Key(tuple(map(_plain, columns))) for columns in found if not any(column.is_composite for column in columns)
    ]
    sound = [key for key in candidates if len(key.columns) == 1 or not key.nullable]
    # Stable, so that among equals the primary key and the shorter one stay first.
    sound.sort(key=lambda key: (key.nullable, len(key.columns) > 1, ordinal_codec(key.columns[0]) is None))
    primary = next((index.columns for index in facts.indexes if index.is_primary), None)
    return next((key for key in sound if key.names == primary), sound[0] if sound else Key())


def _unique(facts: TableFacts) -> list[Index]:
    return [index for index in facts.indexes if index.is_unique]


def _column(facts: TableFacts, name: str) -> Column:
    found = next((column for column in facts.columns if column.name == name), None)
    if found is None:
        names = [column.name for column in facts.columns]
        near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
        advice = f"Did you mean {near[0]}?" if near else f"Its columns are {', '.join(names[:20])}."
        raise InvalidParameterError("key", f"{facts} has no column {name}.", advice)
    return found


def _plain(column: Column) -> KeyColumn:
    return KeyColumn(column.name, column.type, column.nullable, column.operators)
