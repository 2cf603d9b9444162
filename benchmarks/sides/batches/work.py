"""The jobs: vectorised functions, one per format of batches, and the SQL with the same result.

"points" reads narrow rows: an order gets as many points as its amount has cents, times 3 if it is paid, 2 if it is
shipped, 1 if it is open, and twice that at a weekend. "score" reads wide rows: the length of the note, plus the weight
that is in its JSON for each "urgent" in it.

Amounts have 12 digits, so a float that is rounded to cents is exact, and faster than decimals. Some tools read them as
floats anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

COLUMNS = {"points": ("amount", "status", "created_at"), "score": ("note", "attributes")}
STATUS_FACTORS = {"refunded": 0, "open": 1, "shipped": 2, "paid": 3}
WEIGHT = r'"weight": ?(?P<weight>\d+)'
URGENT = "urgent"

SQL = {
    "points": """
        sum((amount * 100)::bigint * CASE status WHEN 'paid' THEN 3 WHEN 'shipped' THEN 2 WHEN 'open' THEN 1 ELSE 0 END
            * CASE WHEN extract(isodow FROM created_at AT TIME ZONE 'UTC') > 5 THEN 2 ELSE 1 END)
    """,
    "score": """
        sum(length(note) + (attributes ->> 'weight')::bigint * (length(note) - length(replace(note, 'urgent', ''))) / 6)
    """,
}
"""Job -> SQL of its result."""


def points_arrow(batch) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    cents = pc.round(pc.multiply(batch["amount"].cast(pa.float64()), 100)).cast(pa.int64())
    factors = pc.index_in(batch["status"].cast(pa.string()), pa.array(STATUS_FACTORS))
    days = pc.day_of_week(batch["created_at"].cast(pa.timestamp("us")))
    points = pc.multiply(pc.multiply(cents, factors), pc.if_else(pc.greater(days, 4), 2, 1))
    return pc.sum(points).as_py() or 0


def score_arrow(batch) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    note, attributes = batch["note"], batch["attributes"]
    weight = pc.struct_field(pc.extract_regex(attributes, WEIGHT), "weight").cast(pa.int64())
    score = pc.add(pc.utf8_length(note), pc.multiply(weight, pc.count_substring(note, URGENT)))
    return pc.sum(score.cast(pa.int64())).as_py() or 0


def points_pandas(frame) -> int:
    cents = (frame["amount"].astype("float64") * 100).round().astype("int64")
    factors = sum((frame["status"] == name).astype("int64") * factor for name, factor in STATUS_FACTORS.items())
    weekend = (frame["created_at"].dt.dayofweek > 4).astype("int64")
    return int((cents * factors * (weekend + 1)).sum())


def score_pandas(frame) -> int:
    weight = frame["attributes"].str.extract(WEIGHT)["weight"].astype("int64")
    return int((frame["note"].str.len() + weight * frame["note"].str.count(URGENT)).sum())


def points_polars(frame) -> int:
    import polars as pl

    cents = (pl.col("amount").cast(pl.Float64) * 100).round().cast(pl.Int64)
    factors = pl.col("status").replace_strict(STATUS_FACTORS, return_dtype=pl.Int64)
    weekend = pl.when(pl.col("created_at").dt.weekday() > 5).then(2).otherwise(1)
    return int(frame.select((cents * factors * weekend).sum()).item())


def score_polars(frame) -> int:
    import polars as pl

    weight = pl.col("attributes").str.extract(WEIGHT).cast(pl.Int64)
    urgent = pl.col("note").str.count_matches(URGENT, literal=True)
    return int(frame.select((pl.col("note").str.len_chars() + weight * urgent).cast(pl.Int64).sum()).item())


def points_rows(rows: Iterable[tuple[Any, ...]]) -> int:
    factors = STATUS_FACTORS
    return sum(
        int(amount * 100) * factors[status] * (2 if created_at.weekday() > 4 else 1)
        for amount, status, created_at in rows
    )


def score_rows(rows: Iterable[tuple[Any, ...]]) -> int:
    return sum(len(note) + attributes["weight"] * note.count(URGENT) for note, attributes in rows)


FUNCTIONS: dict[str, dict[str, Callable[[Any], int]]] = {
    "arrow": {"points": points_arrow, "score": score_arrow},
    "pandas": {"points": points_pandas, "score": score_pandas},
    "polars": {"points": points_polars, "score": score_polars},
    "tuples": {"points": points_rows, "score": score_rows},
}
"""Format -> job -> function of a batch, or of all rows."""
