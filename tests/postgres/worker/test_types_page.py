"""The tables of docs/reference/types.md are what the worker's readers return."""

from __future__ import annotations

import datetime
import ipaddress
import re
import uuid
import zoneinfo
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import tuple_row
from psycopg.types.range import Range

from burla_provider.database.settings import EXACT_TEXT, local_settings
from burla_provider.worker.arrow import record_batches
from burla_provider.worker.batch_formats import BATCH_FORMATS
from burla_provider.worker.json_values import to_json
from burla_provider.worker.stream import stream

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "types.md").read_text()
NAMES = {
    "Decimal": Decimal,
    "Range": Range,
    "UUID": uuid.UUID,
    "ZoneInfo": zoneinfo.ZoneInfo,
    "datetime": datetime,
    "ipaddress": ipaddress,
}


def rows_of(heading: str) -> list[tuple[str, ...]]:
    """The cells in code of the table below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*`) \|$", section, re.M)
    return [tuple(cell.strip("`") for cell in row.split(" | ")) for row in rows]


@pytest.fixture
def worker_session(connection: psycopg.Connection) -> psycopg.Connection:
    """A session with a worker's settings."""
    connection.execute("CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TYPE pair AS (n integer, name text)")
    connection.execute("CREATE DOMAIN price AS numeric(12, 2)")
    connection.autocommit = False
    connection.execute(local_settings(EXACT_TEXT | {"timezone": "UTC"}), prepare=False)
    return connection


@pytest.mark.parametrize(("sql_type", "text", "value", "arrow", "polars"), rows_of("What a function gets"))
def test_a_type_arrives_as_the_page_says(
    worker_session: psycopg.Connection, sql_type: str, text: str, value: str, arrow: str, polars: str
) -> None:
    query = sql.SQL("SELECT {}::{} AS v").format(sql.Literal(text), sql.SQL(sql_type))
    expected = eval(value, NAMES)
    [[(got,)]] = stream(worker_session, query, tuple_row)
    assert (type(got), got) == (type(expected), expected)
    assert repr(got) == repr(expected)
    [batch] = record_batches(worker_session, query)
    assert str(batch.schema.field("v").type) == arrow
    [dtype] = BATCH_FORMATS["pandas"].from_arrow(batch).dtypes
    assert str(dtype) == f"{arrow}[pyarrow]"
    if polars == "an error":
        with pytest.raises(ValueError, match="Polars' decimals have at most 38 digits, and v may have 50"):
            BATCH_FORMATS["polars"].from_arrow(batch)
        return
    frame = BATCH_FORMATS["polars"].from_arrow(batch)
    assert frame.schema["v"] == eval(polars, vars(pytest.importorskip("polars")))
    assert frame["v"].to_list() == batch["v"].to_pylist()


@pytest.mark.parametrize(("value", "json_value"), rows_of("What Airflow gets"))
def test_a_value_is_in_xcom_as_the_page_says(value: str, json_value: str) -> None:
    assert to_json(eval(value, NAMES)) == eval(json_value)


def test_both_tables_are_there() -> None:
    assert len(rows_of("What a function gets")) > 20
    assert len(rows_of("What Airflow gets")) > 5
