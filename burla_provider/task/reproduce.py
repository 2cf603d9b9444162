"""How to process one range, or one input, by hand: SQL, arguments of an operator, and Python code.

The texts are templates for all ranges. What differs from range to range is in ``RangePlace``, only for those that are
shown. No text has a password or a value of ``op_kwargs``.
"""

from __future__ import annotations

import ast
import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import redact
from psycopg import sql

from burla_provider.ranges.key import CTID, Bound, Key, KeyColumn
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.failure_groups import RangePlace
from burla_provider.task.masking import masked
from burla_provider.task.pasted_code import FunctionCode
from burla_provider.worker.outcome import find_unserializable

if TYPE_CHECKING:
    from burla_provider.ranges.plan import Plan
    from burla_provider.task.map_config import MapJobConfig
    from burla_provider.task.report import Report
    from burla_provider.task.table_job_config import TableJobConfig
    from burla_provider.task.transform_config import TransformJobConfig
    from burla_provider.worker.source import Source

_RANGE, _KEY_RANGE, _INPUT = "{range}", "{key_range}", "{input}"
_QUOTES = '"""'
_MAX_INPUT_CHARS = 500


class _Reproduction(ABC):
    """How to process the items of a job one by one."""

    def add_to(self, report: Report) -> None:
        """Add what it knows to a report whose items are known."""
        report.reproduce = self.as_dict()
        report.failures.place = self.place

    @abstractmethod
    def as_dict(self) -> dict[str, str | None]:
        """Return the part ``reproduce`` of the report: the SELECT, and the code that calls the function."""

    @abstractmethod
    def place(self, index: int) -> RangePlace:
        """Return what the templates need for one item."""


class TableReproduction(_Reproduction):
    """How to process the ranges of a table one by one.

    :param source: the rows of the job.
    :param plan: has the ranges.
    """

    def __init__(self, config: TableJobConfig | TransformJobConfig, source: Source, plan: Plan) -> None:
        self._config = config
        self._source = source
        self._plan = plan
        self._function: Any = config.bind_function()
        self._gets_range = config.function_name == "process_range" or (
            self._function is not None and self._function.gets_range
        )

    def as_dict(self) -> dict[str, str | None]:
        """Return the part ``reproduce`` of the report: the SELECT, and the code that calls the function."""
        call = self._call()
        return {"select": masked(self._select), "call": None if call is None else masked(call)}

    def place(self, index: int) -> RangePlace:
        """Return what the templates need for one range."""
        key_range = self._plan.ranges[index]
        where = key_range.where.as_string()
        if _QUOTES in where:  # it would end the string in the code
            return RangePlace(arguments=self._arguments(key_range))
        return RangePlace(where, self._arguments(key_range), _key_range_code(key_range) if self._gets_range else None)

    @property
    def _select(self) -> str:
        totals: Mapping[str, str] | None = getattr(self._config, "totals", None)
        columns = self._source.column_list
        if totals is not None:
            # The line break ends a comment.
            parts = (sql.SQL(f"{text}\n AS ") + sql.Identifier(name) for name, text in totals.items())
            columns = sql.SQL(", ").join(parts)
        placeholder = sql.SQL(f"\n{_RANGE}\n")
        return self._source.select(columns, KeyRange(Key(), 0), placeholder).as_string()

    def _call(self) -> str | None:
        if self._function is None or (not self._gets_range and _QUOTES in self._select):
            return None
        config, name = self._config, str(self._config.function_name)
        function = FunctionCode(name, self._function)
        ranged = f"key_range={_KEY_RANGE}" if self._function.gets_range and name != "process_range" else ""
        if self._gets_range:
            function.imports += [
                "from burla_provider.ranges.key import Key, KeyColumn",
                "from burla_provider.ranges.key_range import KeyRange",
            ]
        query = f'r"""\n{self._select}\n"""'
        if name == "process_range":
            return function.with_psycopg(
                config.postgres_conn_id, [f"print({function.call('connection', _KEY_RANGE)})"], rolls_back=True
            )
        if config.batch_format is not None:
            function.imports += [
                "from psycopg import sql",
                "from burla_provider.worker.rows import read_batches",
            ]
            given = f"sql.Composed([sql.SQL(query)]), {config.batch_format!r}, {config.batch_size!r}"
            each = [f"print({function.call('batches', ranged)})"]
            if name == "map_batch":
                each = ["for batch in batches:", f"    {function.call('batch', ranged)}"]
            lines = [f"with read_batches(connection, {given}) as batches:", *(f"    {line}" for line in each)]
            return function.with_psycopg(config.postgres_conn_id, lines, before=[f"query = {query}"])
        return function.with_cursor(config.postgres_conn_id, query, self._use_rows(function, name, ranged))

    def _use_rows(self, function: FunctionCode, name: str, ranged: str) -> list[str]:
        """Return code that gives the rows of the cursor to the function."""
        config = self._config
        as_dict = f"dict(zip({list(self._source.columns)!r}, row))" if config.row_format == "dict" else "row"
        rows = "iter(cursor)" if as_dict == "row" else f"({as_dict} for row in cursor)"
        if name == "process_rows":
            return [f"print({function.call(rows, ranged)})"]
        if name == "map_batch":
            batch = "list(batch)" if as_dict == "row" else f"[{as_dict} for row in batch]"
            fetch = "fetchmany" if config.batch_size else "fetchall"
            size = config.batch_size or ""
            return [f"while batch := cursor.{fetch}({size}):", f"    {function.call(batch, ranged)}"]
        return [
            "for row in cursor:",
            "    try:",
            f"        {function.call(as_dict, ranged)}",
            "    except Exception:",
            '        print("The function fails on", row)',
            "        raise",
        ]

    def _arguments(self, key_range: KeyRange) -> str | None:
        """Return arguments of the operator for a run of the range alone; None: no arguments select the same rows."""
        key, config = key_range.key, self._config
        is_unbounded = key_range.lower is None and key_range.upper is None
        if key_range.nulls or key == CTID or not key.columns or (key_range.relation and not self._source.partitioned):
            return None
        if is_unbounded and key_range.relation is None:
            return None
        arguments = []
        if key_range.relation:
            arguments.append(f"table={sql.Identifier(*key_range.relation).as_string()!r}")
        if config.key is None:
            names = key.names[0] if len(key.names) == 1 else list(key.names)
            arguments.append(f"key={names!r}")
        arguments += self._bounds(key_range)
        return ", ".join(arguments)

    def _bounds(self, key_range: KeyRange) -> list[str]:
        config, key = self._config, key_range.key
        if key.is_integer and (config.start_id is not None or config.end_id is not None):
            first = [] if key_range.lower is None else [f"start_id={key_range.lower[0]}"]
            return first + ([] if key_range.upper is None else [f"end_id={int(key_range.upper[0]) - 1}"])
        bounds = (("lower", key_range.lower), ("upper", key_range.upper))
        return [f"{name}={_bound_code(key, bound)}" for name, bound in bounds if bound is not None]


class MapReproduction(_Reproduction):
    """How to call the function of a map on one input.

    :param items: number of an input -> the pickled input.
    """

    def __init__(self, config: MapJobConfig, items: Mapping[int, bytes]) -> None:
        self._config = config
        self._items = items

    def as_dict(self) -> dict[str, str | None]:
        """Return the part ``reproduce`` of the report."""
        from burla_provider.task.function_arguments import bind_function

        config = self._config
        bound = bind_function("python_callable", config.python_callable, config.op_kwargs, config.init)
        function = FunctionCode("python_callable", bound)
        return {"select": None, "call": masked(function.plain([f"print({function.call(_INPUT)})"]))}

    def place(self, index: int) -> RangePlace:
        """Return the input as code, if it is plain data and short."""
        try:
            value = pickle.loads(self._items[index])  # noqa: S301 (pickled by this task)
            code = "" if find_unserializable(value) else repr(value)
            is_exact = 0 < len(code) <= _MAX_INPUT_CHARS and ast.literal_eval(code) == value
            # Airflow knows secrets by their values, and by the keys of a dict.
            is_exact = is_exact and masked(repr(redact(value, max_depth=len(code)))) == code
        except Exception:  # an unusual class, a date, or an integer of too many digits
            return RangePlace()
        return RangePlace(input=code if is_exact else None)


def _bound_code(key: Key, bound: Bound) -> str:
    if key.is_integer:
        return bound[0]
    return repr(bound[0] if len(bound) == 1 else list(bound))


def _key_range_code(key_range: KeyRange) -> str:
    """Return the range as a Python expression."""
    columns = ", ".join(map(_column_code, key_range.key.columns))
    parts = [f"Key(({columns},))" if columns else "Key()", str(key_range.index)]
    for name in ("lower", "upper", "nulls", "relation"):
        if value := getattr(key_range, name):
            parts.append(f"{name}={value!r}")
    return f"KeyRange({', '.join(parts)})"


def _column_code(column: KeyColumn) -> str:
    parts = [repr(column.name), repr(column.type)]
    parts += [f"{name}={value!r}" for name in ("nullable", "operators") if (value := getattr(column, name))]
    return f"KeyColumn({', '.join(parts)})"
