"""Tables of every kind, drawn by hypothesis, with the SQL that makes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from psycopg import sql

from tests.support.drawn_keys import KEY_TYPES, KeyType, is_portable

SUFFIXES = ("", " %", "%s", "%%", "%(a)s", '"', "'", " Ö", "\\", ".x")
"""What makes a name odd."""

PARTITIONED = ("hash", "list", "range", "deep")
KINDS = ("plain", *PARTITIONED, "inherited", "view", "join", "materialized")
INDEXES = ("primary", "plain", "unique", "none")
KEPT = (("amount", "numeric(12,2)"), ("note", "text"), ("n", "integer NOT NULL DEFAULT 0"))
NOTES = (None, "a", "B%", "it's", "x\\y", "")


@dataclass(frozen=True)
class DrawnTable:
    """A table and its rows.

    :param kind: one of ``KINDS``.
    :param types: of the key's columns.
    :param suffix: of all names, those of the schema, the table and its columns.
    :param keys: one per row, each with a value per column of the key; None in a key of one column is NULL.
    :param index: of the key: "primary", "unique", "plain" or "none".
    :param statistics: "fresh", "stale" (half of the rows came after ANALYZE) or "none".
    :param by_row_id: partitions are of ``row_id``, in place of the key's first column.
    :param reordered: partitions and children have their columns in another order, and more of them or dropped ones.
    :param churned: some rows were deleted, others updated, so that they are elsewhere in the file.
    """

    kind: str
    types: tuple[KeyType, ...]
    suffix: str
    keys: tuple[tuple[str | None, ...], ...] = field(repr=False)
    index: str
    statistics: str
    by_row_id: bool
    reordered: bool
    churned: bool

    @property
    def schema(self) -> str:
        return f"s{self.suffix}"

    @property
    def name(self) -> str:
        return f"t{self.suffix}"

    @property
    def key(self) -> list[str]:
        return [f"k{number}{self.suffix}" for number in range(len(self.types))]

    @property
    def amount(self) -> str:
        return f"amount{self.suffix}"

    @property
    def columns(self) -> dict[str, str]:
        """Name -> type, in the order of the table's columns."""
        keys = dict(zip(self.key, (one.sql for one in self.types), strict=True))
        return {"row_id": "bigint", **keys, self.amount: "numeric(12,2)", "note": "text", "n": "integer"}

    @property
    def is_nullable(self) -> bool:
        """Whether the catalog says that a key may be NULL."""
        return self.kind in ("view", "join", "materialized") or (len(self.types) == 1 and self.index != "primary")

    @property
    def is_writable(self) -> bool:
        return self.kind not in ("join", "materialized")

    @property
    def has_index(self) -> bool:
        return self.index != "none" and self.kind not in ("view", "join")

    @property
    def relation(self) -> str:
        """The name, as SQL has it."""
        return quoted(self.schema, self.name)

    def text(self, column: str) -> str:
        """The expression that has the column's value as text, the same in every session."""
        name, kind = quoted(column), self.columns[column]
        if kind.startswith("numeric"):
            return f"trim_scale({name})::text"
        return f"({name} AT TIME ZONE 'UTC')::text" if kind == "timestamptz" else f"{name}::text"

    def is_portable(self, column: str) -> bool:
        """Whether Python and Arrow have all of its values."""
        if column not in self.key:
            return True
        place = self.key.index(column)
        return all(is_portable(self.types[place].sql, key[place]) for key in self.keys)

    def script(self) -> str:
        """The SQL that makes it."""
        half = len(self.keys) // 2 if self.statistics == "stale" else len(self.keys)
        analyse = [] if self.statistics == "none" else [f"ANALYZE {self._base}"]
        statements = [
            f"CREATE SCHEMA {quoted(self.schema)}",
            *self._tables(),
            *self._fill(1, self.keys[:half]),
            *analyse,
            *self._fill(half + 1, self.keys[half:]),
            *(
                [
                    f"DELETE FROM {self._base} WHERE row_id % 5 = 0",
                    f"UPDATE {self._base} SET n = 0 WHERE row_id % 3 = 0",
                ]
                * self.churned
            ),
            *self._view(analyse),
        ]
        return "".join(f"{statement};\n" for statement in statements)

    def drop(self) -> str:
        return f"DROP SCHEMA IF EXISTS {quoted(self.schema)} CASCADE"

    @property
    def _base(self) -> str:
        """The table that has the rows."""
        return quoted(self.schema, "base" if self.kind in ("view", "join", "materialized") else self.name)

    def _definitions(self) -> list[str]:
        null = "" if len(self.types) == 1 and self.index != "primary" else " NOT NULL"
        keys = [f"{quoted(name)} {one.sql}{null}" for name, one in zip(self.key, self.types, strict=True)]
        return [
            "row_id bigint NOT NULL",
            *keys,
            f"{quoted(self.amount)} numeric(12,2)",
            "note text",
            "n integer NOT NULL DEFAULT 0",
        ]

    def _tables(self) -> Iterator[str]:
        columns = ", ".join(["gone integer", *self._definitions()])
        by = {"hash": "HASH", "list": "LIST", "range": "RANGE", "deep": "RANGE"}.get(self.kind)
        way = f" PARTITION BY {by} ({self._partition_column})" if by else " WITH (fillfactor = 10)"
        yield f"CREATE TABLE {self._base} ({columns}){way}"
        yield f"ALTER TABLE {self._base} DROP gone"
        if self.index != "none":
            names = [quoted(name) for name in self.key]
            if self.kind in PARTITIONED:
                names += [name for name in dict.fromkeys((self._partition_column, "row_id")) if name not in names]
            keys = ", ".join(names)
            yield {
                "primary": f"ALTER TABLE {self._base} ADD PRIMARY KEY ({keys})",
                "unique": f"CREATE UNIQUE INDEX ON {self._base} ({keys})",
                "plain": f"CREATE INDEX ON {self._base} ({keys})",
            }[self.index]
        if self.kind == "inherited":
            yield from self._child("child", self._base)
            yield from self._child("grandchild", quoted(self.schema, "child"))
        for place, bounds in enumerate(self._bounds()):
            if self.kind == "deep":
                yield from self._leaf(f"p{place}", self._base, bounds, " PARTITION BY HASH (row_id)")
                for half in (0, 1):
                    of = quoted(self.schema, f"p{place}")
                    yield from self._leaf(f"p{place}_{half}", of, f"FOR VALUES WITH (MODULUS 2, REMAINDER {half})")
            else:
                yield from self._leaf(f"p{place}", self._base, bounds)

    @property
    def _partition_column(self) -> str:
        return "row_id" if self.by_row_id else quoted(self.key[0])

    def _bounds(self) -> list[str]:
        low, high = ("5", "15") if self.by_row_id else map(literal, self.types[0].cuts)
        return {
            "hash": [f"FOR VALUES WITH (MODULUS 3, REMAINDER {number})" for number in range(3)],
            "list": [f"FOR VALUES IN ({low})", f"FOR VALUES IN ({high}, NULL)", "DEFAULT"],
            "range": [f"FOR VALUES FROM (MINVALUE) TO ({low})", f"FOR VALUES FROM ({low}) TO ({high})", "DEFAULT"],
            "deep": [f"FOR VALUES FROM ({low}) TO ({high})", "DEFAULT"],
        }.get(self.kind, [])

    def _leaf(self, name: str, parent: str, bounds: str, way: str = " WITH (fillfactor = 10)") -> Iterator[str]:
        leaf = quoted(self.schema, name)
        if not self.reordered:
            yield f"CREATE TABLE {leaf} PARTITION OF {parent} {bounds}{way}"
            return
        yield f"CREATE TABLE {leaf} ({', '.join(['gone text', *reversed(self._definitions())])}){way}"
        yield f"ALTER TABLE {leaf} DROP gone"
        yield f"ALTER TABLE {parent} ATTACH PARTITION {leaf} {bounds}"

    def _child(self, name: str, parent: str) -> Iterator[str]:
        child = quoted(self.schema, name)
        if not self.reordered:
            yield f"CREATE TABLE {child} () INHERITS ({parent})"
            return
        yield f"CREATE TABLE {child} ({', '.join(['more integer', *reversed(self._definitions())])})"
        yield f"ALTER TABLE {child} INHERIT {parent}"

    def _fill(self, first: int, keys: tuple[tuple[str | None, ...], ...]) -> Iterator[str]:
        names = ", ".join(["row_id", *map(quoted, self.key), quoted(self.amount), "note"])
        places = {"inherited": [self._base, quoted(self.schema, "child"), quoted(self.schema, "grandchild")]}
        tables = places.get(self.kind, [self._base])
        for number, table in enumerate(tables):
            rows = ", ".join(
                self._row(row_id, key) for row_id, key in enumerate(keys, first) if row_id % len(tables) == number
            )
            if rows:
                yield f"INSERT INTO {table} ({names}) VALUES {rows} ON CONFLICT DO NOTHING"

    def _row(self, row_id: int, key: tuple[str | None, ...]) -> str:
        amount = None if row_id % 7 == 0 else Decimal(row_id * 37 % 101 - 50) / 4
        values = [*(literal(value) for value in key), literal(amount), literal(NOTES[row_id % len(NOTES)])]
        return f"({', '.join([str(row_id), *values])})"

    def _view(self, analyse: list[str]) -> Iterator[str]:
        names = [quoted(name) for name in self.columns]
        everything = f"SELECT {', '.join(names)} FROM {self._base}"
        if self.kind == "view":
            yield f"CREATE VIEW {self.relation} AS {everything}"
        if self.kind == "join":
            halves = ", ".join(f"{half}.{name}" for half, name in zip("abababab", names, strict=False))
            join = f"{self._base} AS a JOIN {self._base} AS b USING (row_id)"
            yield f"CREATE VIEW {self.relation} AS SELECT {halves} FROM {join}"
        if self.kind == "materialized":
            yield f"CREATE MATERIALIZED VIEW {self.relation} WITH (fillfactor = 10) AS {everything}"
            if self.index != "none":
                unique = "UNIQUE" if self.index != "plain" else ""
                keys = ", ".join(map(quoted, self.key))
                yield f"CREATE {unique} INDEX ON {self.relation} ({keys})"
            if analyse:
                yield f"ANALYZE {self.relation}"


def quoted(*names: str) -> str:
    """The name, as SQL has it."""
    return sql.Identifier(*names).as_string()


def literal(value: Any) -> str:
    return "NULL" if value is None else sql.Literal(str(value)).as_string()


@st.composite
def tables(draw: st.DrawFn, *, kinds: Sequence[str] = KINDS, indexes: Sequence[str] = INDEXES) -> DrawnTable:
    kind = draw(st.sampled_from(kinds))
    # The catalog does not know of a view's column that it is NOT NULL, and then a key has one column.
    columns = 1 if kind in ("view", "join", "materialized") else draw(st.sampled_from([1, 1, 1, 2, 3]))
    # Integers have more ways to be split and bounded than others.
    all_types = st.sampled_from([KEY_TYPES["integer"], KEY_TYPES["bigint"], *KEY_TYPES.values()])
    types = tuple(draw(all_types) for _ in range(columns))
    index = draw(st.sampled_from(indexes))
    may_be_null = columns == 1 and index != "primary"
    values = [st.one_of(one.values, st.none()) if may_be_null else one.values for one in types]
    heap = st.tuples(st.tuples(*values), st.sampled_from([1, 1, 1, 2, 25]))
    heaps = draw(st.one_of(st.lists(heap, max_size=9), st.lists(heap, min_size=10, max_size=40)))
    by_row_id = kind in PARTITIONED and (draw(st.booleans()) or (kind == "hash" and types[0].sql == "ext.word"))
    return DrawnTable(
        kind=kind,
        types=types,
        suffix=draw(st.sampled_from(SUFFIXES)),
        keys=tuple(key for key, times in heaps for _ in range(times))[:80],
        index=index,
        statistics=draw(st.sampled_from(["none", "fresh", "stale"])),
        by_row_id=by_row_id,
        reordered=kind in (*PARTITIONED, "inherited") and draw(st.booleans()),
        churned=draw(st.booleans()),
    )
