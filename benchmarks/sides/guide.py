"""The guide's script. Its function gets the bounds of a range (and the login) as arguments: Burla unpacks tuples."""

from __future__ import annotations

from typing import Any

import psycopg2

from benchmarks.checksum import checksum


def build_id_ranges(start_id, end_id, rows_per_range):
    id_ranges = []
    range_start_id = start_id

    while range_start_id <= end_id:
        range_end_id = min(range_start_id + rows_per_range - 1, end_id)
        id_ranges.append((range_start_id, range_end_id))
        range_start_id = range_end_id + 1

    return id_ranges


def process_id_range(start_id, end_id, login, job, table, columns):
    connection = psycopg2.connect(**login)
    cursor = connection.cursor()

    cursor.execute(
        f"SELECT {', '.join(columns)} FROM {table} WHERE id BETWEEN %s AND %s",
        (start_id, end_id),
    )
    rows = cursor.fetchall()

    if job == "totals":  # noqa: SIM108 - as in the guide
        total = float(sum(row[1] for row in rows))
    else:
        total = sum(checksum(row) for row in rows)

    cursor.close()
    connection.close()

    return {"start_id": start_id, "end_id": end_id, "row_count": len(rows), "total": total}


def find_ids(login, table):
    connection = psycopg2.connect(**login)
    cursor = connection.cursor()
    cursor.execute(f"SELECT min(id), max(id) FROM {table}")
    return cursor.fetchone()


def combine(range_results: list[dict[str, Any]]) -> tuple[int, Any]:
    total_rows = 0
    total = 0
    for range_result in range_results:
        total_rows += range_result["row_count"]
        total += range_result["total"]
    return total_rows, total
