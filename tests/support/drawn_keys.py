"""Types for the columns of a key, and values that are hard to bound."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg
from hypothesis import strategies as st

PREPARE = """
CREATE SCHEMA ext;
CREATE TYPE mood AS ENUM ('sad', 'so % so', 'it''s "ok"', 'happy');
CREATE DOMAIN positive AS bigint CHECK (VALUE > 0);
CREATE TYPE ext.word;
CREATE FUNCTION ext.word_in(cstring) RETURNS ext.word LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION ext.word_out(ext.word) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE ext.word (INPUT = ext.word_in, OUTPUT = ext.word_out, LIKE = text, CATEGORY = 'S', COLLATABLE = true);
CREATE CAST (ext.word AS text) WITHOUT FUNCTION AS IMPLICIT;
CREATE FUNCTION ext.word_compare(ext.word, ext.word) RETURNS integer LANGUAGE sql IMMUTABLE STRICT
    RETURN bttextcmp(lower($1::text), lower($2::text));
"""
_OPERATOR = """
CREATE FUNCTION ext.word_{name}(ext.word, ext.word) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT
    RETURN ext.word_compare($1, $2) {operator} 0;
CREATE OPERATOR ext.{operator} (FUNCTION = ext.word_{name}, LEFTARG = ext.word, RIGHTARG = ext.word);
"""
_OPERATORS = {"lt": "<", "le": "<=", "eq": "=", "ge": ">=", "gt": ">"}
_CLASS = (
    "CREATE OPERATOR CLASS ext.word_ops DEFAULT FOR TYPE ext.word USING btree AS "
    + ", ".join(f"OPERATOR {number} ext.{operator}" for number, operator in enumerate(_OPERATORS.values(), 1))
    + ", FUNCTION 1 ext.word_compare(ext.word, ext.word)"
)


def prepare(connection: psycopg.Connection[Any]) -> None:
    """Create the types. ``ext.word`` is like citext: case is ignored, by operators outside of the search path.

    ``connection`` has them on its search path, so that the statement to compare with uses them; workers do not.
    """
    connection.execute(PREPARE + "".join(_OPERATOR.format(name=n, operator=o) for n, o in _OPERATORS.items()) + _CLASS)
    connection.execute("SET search_path = public, ext; SET timezone = 'UTC'")


@dataclass(frozen=True)
class KeyType:
    """A type for a key column.

    :param values: texts of values.
    :param cuts: two texts in the type's order, between which partitions are cut.
    :param has_extremes: whether PostgreSQL has ``min`` and ``max`` of it in every version.
    """

    sql: str
    values: st.SearchStrategy[str] = field(repr=False)
    cuts: tuple[str, str] = field(repr=False)
    has_extremes: bool = field(default=True, repr=False)


def _integers(least: int, greatest: int) -> st.SearchStrategy[str]:
    edges = st.sampled_from([0, -1, 1, least, least + 1, greatest - 1, greatest])
    with_gaps = st.integers(-5, 5).map(lambda n: n * 1000)
    return st.one_of(st.integers(1000, 1060), with_gaps, edges, st.integers(least, greatest)).map(str)


_TEXTS = [
    *("", " ", "a", "A", "ä", "Z", "ab", "a b", "\t", "漢", "😀", "e\u0301", "e\\'x", "$1", "\\"),
    *("it's", 'a"b', "a\\b", "a\nb", "50% off", "100%% cotton", "%s", "%(a)s", "x%", ":a", "--", "/*", "E'", "NULL"),
]
_MOMENTS = [
    *("infinity", "-infinity", "0044-03-15 00:00:00 BC", "0001-01-01 00:00:00", "1969-12-31 23:59:59.999999"),
    *("1970-01-01 00:00:00", "2024-02-29 12:00:00.000001", "9999-12-31 23:59:59", "19999-01-01 00:00:00"),
]
_DAYS = st.integers(1, 28).map(lambda day: f"2024-02-{day:02}")
_TIMES = st.builds(lambda day, hour: f"{day} {hour:02}:30:00.5", _DAYS, st.integers(0, 23))


def _without_time(moment: str) -> str:
    day, _, rest = moment.partition(" ")
    return day + (" BC" if rest.endswith("BC") else "")


INTEGERS = ("integer", "smallint", "bigint", "positive")
KEY_TYPES = {
    one.sql: one
    for one in (
        KeyType("integer", _integers(-(2**31), 2**31 - 1), ("1010", "1030")),
        KeyType("smallint", _integers(-(2**15), 2**15 - 1), ("1010", "1030")),
        KeyType("bigint", _integers(-(2**63), 2**63 - 1), ("1010", "1030")),
        KeyType("positive", st.integers(1, 2**63 - 1).map(str), ("1000", "1000000"), has_extremes=False),
        KeyType(
            "text",
            st.one_of(
                st.sampled_from(_TEXTS),
                st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0{}#"), max_size=8),
            ),
            ("A", "a b"),
        ),
        KeyType(
            "numeric",
            st.one_of(
                st.integers(-10, 10).map(str),
                st.decimals(-5, 5, places=2).map(str),
                st.sampled_from(["NaN", "Infinity", "-Infinity", "0.50", "1e40", "1e400"]),
                st.integers(-(10**30), 10**30).map(str),
            ),
            ("-1", "3"),
        ),
        KeyType("numeric(8,2)", st.decimals(-50, 50, places=2).map(str), ("-1", "3")),
        KeyType(
            "uuid",
            st.one_of(
                st.uuids().map(str), st.sampled_from([f"{n:032x}" for n in (0, 1, 2**64, 2**64 + 1, 2**128 - 1)])
            ),
            ("40000000-0000-0000-0000-000000000000", "c0000000-0000-0000-0000-000000000000"),
            has_extremes=False,
        ),
        KeyType("date", st.one_of(_DAYS, st.sampled_from(_MOMENTS).map(_without_time)), ("2024-02-10", "2024-02-20")),
        KeyType("timestamp", st.one_of(_TIMES, st.sampled_from(_MOMENTS)), ("2024-02-10", "2024-02-20")),
        KeyType(
            "timestamptz",
            st.one_of(_TIMES, _TIMES.map(lambda time: f"{time}+05:45"), st.sampled_from(_MOMENTS)),
            ("2024-02-10", "2024-02-20"),
        ),
        KeyType("boolean", st.sampled_from(["false", "true"]), ("false", "true"), has_extremes=False),
        KeyType(
            "mood",
            st.sampled_from(["sad", "so % so", 'it\'s "ok"', "happy"]),
            ("so % so", "happy"),
            has_extremes=False,
        ),
        KeyType(
            "ext.word", st.sampled_from(["a", "A", "b", "B", "z", "Z", "50% b", "it's"]), ("a", "Z"), has_extremes=False
        ),
    )
}


def is_portable(kind: str, value: str | None) -> bool:
    """Whether Python and Arrow have the value."""
    if value is None:
        return True
    if kind in ("date", "timestamp", "timestamptz"):
        return value.startswith(("19", "20")) and "BC" not in value and value[4] == "-"
    return kind != "numeric" or (value.lstrip("-").replace(".", "").isdigit() and len(value) <= 20)
