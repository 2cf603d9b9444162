"""Jobs of every kind on a drawn table, and the SQL statement that has the expected result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any

import psycopg
from hypothesis import strategies as st

from tests.support.drawn_functions import chain, collector, reader, writer
from tests.support.drawn_keys import INTEGERS
from tests.support.drawn_tables import PARTITIONED, DrawnTable, literal, quoted, tables

EXACT = Context(prec=500)
WORK = ("totals", "tuple", "dict", "arrow", "read", "update", "insert", "move")
"""What a job does: totals, process_rows in a row format, process_range that reads or that writes with a ledger."""

WHERES = ("", "plain", "comment", "either", "like", "list", "mapping", "table", "schema", "exists", "row", "null")


@dataclass(frozen=True)
class Condition:
    """A condition on the rows.

    :param text: as the user gives it.
    :param parameters: for its placeholders; None: it has none.
    :param plain: the same without placeholders.
    """

    text: str
    parameters: Any = None
    plain: str = ""


@dataclass(frozen=True)
class DrawnJob:
    """What the operator is asked to do.

    :param work: one of ``WORK``.
    :param key_given: whether the key is named; otherwise the provider chooses one.
    :param window: the window's parameters, by name.
    :param where: one of ``WHERES``.
    :param columns: what ``process_rows`` asks for; None: all.
    :param qualified: whether totals name their columns with the table's name.
    :param options: further parameters of the operator.
    :param by_ids: whether ``process_range`` compares the key with ``start_id`` and ``end_id``, in place of ``where``.
    :param parameters: whether the queries of ``process_range`` have parameters, so that ``%`` is written ``%%``.
    :param engine: parameters of the ``InProcessEngine``.
    """

    table: DrawnTable
    work: str
    key_given: bool
    window: dict[str, Any]
    where: str
    columns: tuple[str, ...] | None
    qualified: bool
    options: dict[str, Any]
    has_results_table: bool
    by_ids: bool
    parameters: bool
    engine: dict[str, Any] = field(default_factory=dict)

    @property
    def is_write(self) -> bool:
        return self.work in ("update", "insert", "move")

    @property
    def schema(self) -> str:
        """For the ledger and the archive."""
        return f"burla_ledger{self.table.suffix}"

    @property
    def archive(self) -> str:
        return quoted(self.schema, "archive")

    @property
    def results_table(self) -> str:
        return quoted(self.schema, f"r{self.table.suffix}")

    @property
    def taken(self) -> tuple[str, ...]:
        """The columns whose values are compared."""
        if self.work in ("tuple", "dict", "arrow") and self.columns is not None:
            return self.columns
        return tuple(self.table.columns)

    @property
    def texts(self) -> str:
        """Their values as text, for a SELECT."""
        return ", ".join(self.table.text(column) for column in self.taken if column != "n")

    def script(self) -> str:
        names = [f"c{number} text" for number in range(len(self.taken) - 1)]
        archive = f"CREATE TABLE {self.archive} ({', '.join(names)});\n" if self.is_write else ""
        return f"{self.table.script()}CREATE SCHEMA {quoted(self.schema)};\n{archive}"

    def drop(self) -> str:
        return f"{self.table.drop()}; DROP SCHEMA IF EXISTS {quoted(self.schema)} CASCADE"

    @property
    def condition(self) -> Condition:
        table, amount = self.table, quoted(self.table.amount)
        name, doubled = quoted(table.name), amount.replace("%", "%%")
        if self.where == "list":
            return Condition(f"note = %s OR {doubled} > %s", ["B%", 3], f"note = 'B%' OR {amount} > 3")
        if self.where == "mapping":
            text = f"note LIKE %(a)s OR note LIKE 'x%%' OR {doubled} < %(b)s"
            values = {"a": "i%", "b": Decimal("-3.5")}
            return Condition(text, values, f"note LIKE 'i%' OR note LIKE 'x%' OR {amount} < -3.5")
        plain = {
            "": "TRUE",
            "plain": f"{amount} > 0",
            "comment": f"{amount} > 0 -- more than nothing, 100% (of course",
            "either": f"{amount} > 0 OR note IS NULL",
            "like": "note LIKE '%a%' OR note LIKE 'B%'",
            "table": f"{name}.{amount} > 0 OR {name}.note IS NULL",
            "schema": f"{table.relation}.{amount} > 0",
            "exists": f"EXISTS (SELECT FROM {table.relation} AS o WHERE o.row_id = {name}.row_id + 1)",
            "row": f"md5({name}::text) < '8'",
            "null": f"({quoted(table.key[0])} IS NOT NULL) IS NOT FALSE",
        }[self.where]
        return Condition(plain, None, plain)

    @property
    def totals(self) -> dict[str, str]:
        prefix = f"{quoted(self.table.name)}." if self.qualified else ""
        amount = f"{prefix}{quoted(self.table.amount)}"
        totals = {
            "n": "count(*)",
            "amounts": f"count({amount})",
            "sum": f"sum({amount})",
            "least": f"min({amount})",
            "most": f"max({amount})",
            "mean": f"avg({amount})",
            "ids": f"sum({prefix}row_id)",
            "mean id": f"avg({prefix}row_id)",
            "some %": f"sum({amount} * 2) FILTER (WHERE {prefix}note LIKE '%a%' OR {prefix}row_id > 3)",
            "rows": f"count({prefix}note || '%')",
        }
        if self.qualified:
            totals["whole rows"] = f"count({quoted(self.table.name)})"
        for number, (name, one) in enumerate(zip(self.table.key, self.table.types, strict=True)):
            totals[f"keys {number}"] = f"count({prefix}{quoted(name)})"
            if one.has_extremes:
                totals[f"first {number}"] = f"min({prefix}{quoted(name)})"
                totals[f"last {number}"] = f"max({prefix}{quoted(name)})"
        return totals

    def parameters_of_operator(self) -> dict[str, Any]:
        """What ``BurlaPostgresOperator`` is given."""
        condition = self.condition
        given: dict[str, Any] = {"table": self.table.relation, **self.window, **self.options}
        if self.has_results_table:
            given["results_table"] = self.results_table
        if self.key_given:
            given["key"] = self.table.key if len(self.table.key) > 1 else self.table.key[0]
        if self.where:
            given |= {"where": condition.text, "parameters": condition.parameters}
        if self.work == "totals":
            return given | {"totals": self.totals}
        if self.work in ("tuple", "dict", "arrow"):
            columns = None if self.columns is None else list(self.columns)
            process = collector(self.work, self.taken)
            form = "batch_format" if self.work == "arrow" else "row_format"
            return given | {"process_rows": process, form: self.work, "columns": columns, "combine": chain}
        given["combine"] = chain
        rest = f" AND (\n{condition.plain}\n)"
        what = f"SELECT {self.texts}"
        table = self.table.relation
        ids = quoted(self.table.key[0]) if self.by_ids else None
        if not self.is_write:
            return given | {"process_range": reader((f"{what} FROM {table} WHERE ", rest, self.parameters), ids)}
        query = {
            "update": (f"UPDATE {table} SET n = n + 1 WHERE ", rest, self.parameters),
            "insert": (f"INSERT INTO {self.archive} {what} FROM {table} WHERE ", rest, self.parameters),
            "move": (f"INSERT INTO {self.archive} {what} FROM {table} WHERE ", rest, self.parameters),
        }[self.work]
        queries = [query]
        if self.work == "move":
            queries.append((f"DELETE FROM {table} WHERE ", rest, not self.parameters))
        return given | {"process_range": writer(queries, ids), "ledger": quoted(self.schema, f"l{self.table.suffix}")}

    @property
    def refusable(self) -> set[str]:
        """Parameters of the operator that it may refuse, though most of such jobs are done."""
        may = set()
        options, kinds = self.options, {one.sql for one in self.table.types}
        if options["split"] in ("width", "histogram", "probed", "pages"):
            may |= {"split"}
        if options["split"] == "width":
            may |= {"rows_per_range", "ranges"}
        if options.get("refine"):
            may |= {"refine"}
        if not self.key_given or options["split"] == "pages":
            may |= {"key", "split"}
        if self.is_write and (self.table.kind == "join" or kinds - {*INTEGERS, "date", "text", "uuid", "timestamp"}):
            may |= {"key"}  # for some types, the value after the maximum key is not known
        if any("1e4" in (value or "") or value == "-infinity" for key in self.table.keys for value in key):
            may |= {"key"}
        if self.where == "schema":
            may |= {"where"}
        # The bounds may be the same one, in another spelling.
        return may | set(self.window)

    def in_window(self) -> str:
        """The window as a condition, as a user writes it."""
        names = [quoted(name) for name in self.table.key]
        ids = {"start_id": ">=", "end_id": "<="}
        keys = {"lower": ">=", "upper": "<"}
        conditions = [
            f"{names[0]} {operator} {self.window[name]}" for name, operator in ids.items() if name in self.window
        ]
        for name, operator in keys.items():
            if name in self.window:
                bound = self.window[name] if isinstance(self.window[name], list) else [self.window[name]]
                values = [f"{literal(value)}::{one.sql}" for value, one in zip(bound, self.table.types, strict=True)]
                conditions.append(f"({', '.join(names)}) {operator} ({', '.join(values)})")
        return " AND ".join(conditions) or "TRUE"

    def select(self, what: str) -> str:
        """The one statement."""
        return f"SELECT {what} FROM {self.table.relation} WHERE {self.in_window()} AND (\n{self.condition.plain}\n)"

    def expected(self, connection: psycopg.Connection[Any]) -> Any:
        """What the job must give: totals by name, or rows of texts, sorted."""
        if self.work != "totals":
            return sorted_rows(connection.execute(self.select(self.texts)).fetchall())
        cursor = connection.execute(
            self.select(", ".join(f"({self._total(text)})::text" for text in self.totals.values()))
        )
        [row] = cursor.fetchall()
        return dict(zip(self.totals, map(shown, row), strict=True))

    @staticmethod
    def _total(text: str) -> str:
        return f"coalesce({text}, 0)" if text.startswith("sum") else text


def sorted_rows(rows: Iterable[Iterable[str | None]]) -> list[list[str | None]]:
    return sorted((list(row) for row in rows), key=repr)


def shown(value: Any) -> str | None:
    """A total as text; of equal numerics with other numbers of zeros at their ends, any may be the least one."""
    if value is None:
        return None
    text = str(value)
    try:
        number = Decimal(text)
    except ArithmeticError:
        return text
    return str(number.normalize(EXACT)) if number.is_finite() else text


def _order(bound: Any) -> Any:
    """By which most pairs of bounds are in their type's order."""
    parts = bound if isinstance(bound, list) else [bound]
    return [(int(part), part) if part.lstrip("-").isdigit() else (0, part) for part in parts]


def windows(table: DrawnTable) -> st.SearchStrategy[dict[str, Any]]:
    """Windows of the key: none, open at one end, closed, and such as have no row."""
    names = ["none", "none", "lower", "upper", "both"]
    if len(table.types) == 1 and table.types[0].sql in INTEGERS:
        names += ["ids", "start_id", "end_id", "beyond"]
    values = [st.one_of(st.sampled_from([*one.cuts]), one.values) for one in table.types]
    # No bound is "": that is what a template gives that renders to nothing, and leaves the end open.
    bound = st.tuples(*values).map(lambda bound: list(bound) if len(bound) > 1 else bound[0] or " ")
    ids = st.one_of(st.integers(-10, 1070), st.integers(-(2**63), 2**63 - 1))
    made = {
        "none": st.just({}),
        "lower": bound.map(lambda value: {"lower": value}),
        "upper": bound.map(lambda value: {"upper": value}),
        "both": st.tuples(bound, bound).map(
            lambda ends: dict(zip(("lower", "upper"), sorted(ends, key=_order), strict=True))
        ),
        "ids": st.tuples(ids, ids).map(lambda ends: {"start_id": min(ends), "end_id": max(ends)}),
        "start_id": ids.map(lambda value: {"start_id": value}),
        "end_id": ids.map(lambda value: {"end_id": value}),
        "beyond": st.sampled_from(
            [{"start_id": str(2**70)}, {"end_id": str(-(2**70))}, {"start_id": 2**63, "end_id": 2**64 - 1}]
        ),
    }
    return st.sampled_from(names).flatmap(made.__getitem__)


def splits(table: DrawnTable, *, is_write: bool) -> list[str]:
    """Strategies, most of which can split the table."""
    names = ["auto", "auto", "keyset", "single"]
    is_stored = table.kind not in ("view", "join")
    if is_stored and table.statistics != "none" and table.keys:
        names += ["histogram", "probed"]
    if len(table.types) == 1 and table.types[0].sql in (*INTEGERS, "date", "timestamp", "timestamptz", "uuid"):
        names.append("width")
    if is_stored and not is_write and table.kind != "inherited":
        names.append("pages")
    return names


@st.composite
def jobs(draw: st.DrawFn, *, leaves_out: bool = False) -> DrawnJob:
    """A job.

    :param leaves_out: whether it leaves out all for which "auto" needs the key, so that it can choose pages.
    """
    keyed = tables(kinds=("plain", *PARTITIONED, "materialized"), indexes=("primary", "unique"))
    table = draw(keyed if leaves_out else tables())
    work = draw(st.sampled_from(WORK[:4] if leaves_out else WORK))
    if work in ("update", "move") and not table.is_writable:
        work = "insert"
    is_write = work in ("update", "insert", "move")
    split = "auto" if leaves_out else draw(st.sampled_from(splits(table, is_write=is_write)))
    window = {} if split == "pages" or leaves_out else draw(windows(table))
    options: dict[str, Any] = {
        "split": split,
        "consistency": "none"
        if is_write
        else "snapshot"
        if split == "pages" or leaves_out
        else draw(st.sampled_from(["snapshot", "none"])),
        **draw(
            st.one_of(
                st.integers(2, 4).map(lambda n: {"ranges": n}) if leaves_out else st.just({}),
                st.integers(1, 9).map(lambda n: {"ranges": n}),
                # Of "width" these are ids, and a window of all bigints has too many.
                st.just({}) if split == "width" else st.integers(3, 40).map(lambda n: {"rows_per_range": n}),
            )
        ),
    }
    if split not in ("single", "pages") and not leaves_out and table.has_index and draw(st.booleans()):
        options["refine"] = True
    if options["consistency"] == "snapshot" and draw(st.booleans()):
        options["verify"] = "count"
    if draw(st.integers(0, 3)) == 3:
        options["trial_ranges"] = 1
    columns: tuple[str, ...] | None = None
    if work in ("tuple", "dict", "arrow"):
        portable = [name for name in table.columns if table.is_portable(name)]
        if len(portable) < len(table.columns) or draw(st.booleans()):
            columns = tuple(draw(st.permutations(portable)))
    counts_ids = len(table.types) == 1 and table.types[0].sql in INTEGERS
    may_choose = table.has_index and table.index != "plain" and (not window or table.kind in ("plain", "inherited"))
    key_given = split != "pages" and not leaves_out and not (may_choose and draw(st.booleans()))
    # A range that moves its rows changes what an EXISTS on the same table finds for the ranges after it.
    wheres = [where for where in WHERES if work != "move" or where != "exists"]
    return DrawnJob(
        table=table,
        work=work,
        key_given=key_given,
        window=window,
        where=draw(st.sampled_from(wheres)),
        columns=columns,
        qualified=work == "totals" and draw(st.booleans()),
        options=options,
        has_results_table=draw(st.integers(0, 3)) == 3,
        by_ids=work not in ("totals", "tuple", "dict", "arrow") and key_given and counts_ids and draw(st.booleans()),
        parameters=draw(st.booleans()),
        engine={
            "workers": draw(st.integers(1, 3)),
            "twice": draw(st.booleans()),
            "crashes": draw(st.sampled_from([0, 0, 0, 0, 2])),
        },
    )
