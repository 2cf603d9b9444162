"""Failed ranges of physical pages: what a person reads names the table's key, not the place of a row on disk."""

from __future__ import annotations

from typing import Any

import pytest

from tests.airflow.conftest import Orders
from tests.airflow.test_postgres import operator
from tests.support.task_runner import Airflow

BAD = 3 * 7_777 + 7 * 5_000
"""The id of row 7,777 of ``orders``."""


def refuse_bad(rows: Any) -> dict[str, Any]:
    return {"n": sum(1 / (row_id != BAD) for row_id, *_ in rows)}


OPTIONS: dict[str, Any] = {"split": "pages", "process_rows": refuse_bad, "columns": ["id"], "isolate_failures": True}


def test_a_failed_range_of_pages_is_shown_with_its_keys_everywhere(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(**OPTIONS))
    [group] = result.xcoms["burla_report"]["failures"]["groups"]
    [failed] = group["ranges"]
    pages, keys = failed["item"].split(" with ")
    assert pages.startswith(f"range {failed['index']} (pages ")
    _, _, first, _, last = keys.split()
    assert int(first) < BAD < int(last)
    assert (group["message"], group["rows"]) == ("division by zero", f"id = {BAD}")
    for text in (str(result.error), result.log):
        assert failed["item"] in text
        assert f"Rows that fail: id = {BAD}" in text
    del failed["where"]  # the condition of the range of pages
    assert "ctid" not in f"{result.error}{group}"


def test_a_tolerated_failure_of_pages_names_keys_in_the_results_table(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(**OPTIONS, tolerated_failures=1, results_table="public.results"))
    assert result.value["failed_ranges"] == 1, result.log
    [(error,)] = orders.connection.execute("SELECT error FROM results WHERE error IS NOT NULL").fetchall()
    assert error.startswith("Rows with id between ")
    assert error.endswith(f": ZeroDivisionError: division by zero. Rows that fail: id = {BAD}.")


PARTS = """
    CREATE TABLE parts (day int, id int, PRIMARY KEY (day, id)) PARTITION BY LIST (day);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
    CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
    INSERT INTO parts SELECT n % 2 + 1, n FROM generate_series(1, 5000) AS n;
    ANALYZE parts;
"""


@pytest.mark.parametrize(
    ("key", "names"),
    [
        pytest.param("PRIMARY KEY (day, id)", ("day = 2 and id = 777", "(day, id) between"), id="primary key"),
        pytest.param("UNIQUE (day, id)", ("ctid = (", ""), id="unique, but NULL is possible"),
    ],
)
def test_rows_of_a_partition_are_named_by_the_key_of_the_table(
    airflow: Airflow, orders: Orders, key: str, names: tuple[str, str]
) -> None:
    def refuse(rows: Any) -> dict[str, Any]:
        return {"n": sum(1 / (row_id != 777) for row_id, *_ in rows)}

    orders.connection.execute(PARTS.replace("PRIMARY KEY (day, id)", key))
    result = airflow.run(operator(**OPTIONS | {"table": "parts", "process_rows": refuse}))
    row, span = names
    assert ") of public.parts_2" in str(result.error), result.log
    assert f"Rows that fail: {row}" in str(result.error)
    assert (f"with {span}" in str(result.error)) == bool(span)
