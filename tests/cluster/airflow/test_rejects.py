"""Rows that fail on a real cluster."""

from __future__ import annotations

from typing import Any

from tests.airflow.test_rejects import assert_split, copies, failing, operator  # noqa: F401 (a fixture)
from tests.support.task_runner import Airflow


def test_each_row_is_written_or_rejected_once(on_burla: Airflow, copies: Any) -> None:  # noqa: F811
    result = on_burla.run(operator())
    rejected = failing(copies)
    assert result.state == "success", result.log
    assert (result.value["rows_inserted"], result.value["rows_rejected"]) == (20_000 - rejected, rejected)
    assert_split(copies)
    query = "SELECT DISTINCT (source_key ->> 'id')::bigint % 1000, error_class FROM rejects ORDER BY 1"
    assert copies.execute(query).fetchall() == [(0, "ValueError"), (4, "psycopg.errors.CheckViolation")]
