"""
### Write the words of all notes to another table

`split_note` returns one row per word of a note, or none. The rows are inserted into `note_words`, each exactly once per
run: the `ledger` has how far each range is, and a retry continues there. The first task empties the table, so that the
DAG can run again.
"""

from __future__ import annotations

import datetime

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import dag

from burla_provider.operators.transform import BurlaPostgresTransformOperator


def split_note(order):
    """Return the rows of one order. Runs on a worker: it can use its own imports and the code of this file."""
    import unicodedata

    order_id, note = order
    if note is None:
        return None
    words = unicodedata.normalize("NFKC", note).lower().split()
    return [(order_id, position, word) for position, word in enumerate(words)]


@dag(
    schedule=None,
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    default_args={"retries": 3, "retry_delay": datetime.timedelta(seconds=30)},
    doc_md=__doc__,
    tags=["burla", "postgres", "writes"],
)
def note_words():
    make_table = SQLExecuteQueryOperator(
        task_id="make_table",
        conn_id="orders_db",
        sql=[
            "CREATE TABLE IF NOT EXISTS note_words"
            " (order_id bigint, position integer, word text NOT NULL, PRIMARY KEY (order_id, position))",
            "TRUNCATE note_words",
        ],
    )
    write_words = BurlaPostgresTransformOperator(
        task_id="write_words",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table="orders",
        columns=["id", "note"],
        map_row=split_note,
        target_table="note_words",
        write_mode="insert",
        ledger="burla_ledger",
    )
    make_table >> write_words


note_words()
