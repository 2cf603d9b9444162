"""
### Count the words in the notes of all orders

A Python function on every row, which SQL cannot do. `count_words` gets the rows of one range as an iterator, uses
little memory, and returns numbers. The numbers of all ranges are added exactly.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from airflow.sdk import dag, task

from burla_provider.operators.postgres import BurlaPostgresOperator


def count_words(rows: Iterable[tuple[int, Decimal, str | None]]) -> dict[str, Any]:
    """Count the words of one range. Runs on a worker: it can use its own imports and the code of this file."""
    import re
    import unicodedata

    word = re.compile(r"[^\W\d_]+")
    words = 0
    urgent = Decimal(0)
    for _, amount, note in rows:
        found = word.findall(unicodedata.normalize("NFKC", note or "").casefold())
        words += len(found)
        if "urgent" in found:
            urgent += amount
    return {"words": words, "urgent_amount": urgent}


@dag(
    schedule="@daily",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    default_args={"retries": 2, "retry_delay": datetime.timedelta(seconds=30)},
    doc_md=__doc__,
    tags=["burla", "postgres"],
)
def order_notes():
    read_notes = BurlaPostgresOperator(
        task_id="read_notes",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table="orders",
        columns=["id", "amount", "note"],
        process_rows=count_words,
    )

    @task
    def report(totals: dict) -> str:
        line = f"{totals['words']:,} words in {totals['row_count']:,} notes, {totals['urgent_amount']} of it urgent"
        print(line)
        return line

    report(read_notes.output)


order_notes()
