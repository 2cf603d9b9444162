"""An overwrite ends with the rows that the function returned, whatever is killed."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.airflow.conftest import Orders, add_database
from tests.airflow.test_exactly_once import SEEDS
from tests.airflow.test_overwrite import LEFT, ask
from tests.airflow.test_transform_exactly_once import (  # noqa: F401 (a fixture)
    ROWS,
    halve,
    numbers,
    run_in_chaos,
)
from tests.support.chaos import Chaos
from tests.support.task_runner import Airflow


@pytest.mark.parametrize("seed", SEEDS[::2])
@pytest.mark.parametrize("has_key", [True, False])
def test_rows_of_another_database_are_replaced(
    airflow: Airflow,
    numbers: Orders,  # noqa: F811
    postgres_server: Any,
    has_key: bool,
    seed: int,
) -> None:
    with postgres_server.database() as conninfo, psycopg.connect(conninfo, autocommit=True) as target:
        add_database(airflow, "dwh", target.info)
        target.execute(f"""
            CREATE TABLE halves (id bigint, half text);
            INSERT INTO halves SELECT n, 'half ' || n / 2 FROM generate_series(-99, {ROWS}) AS n;
        """)
        if has_key:
            target.execute("ALTER TABLE halves ADD PRIMARY KEY (id)")
        options = {"target_conn_id": "dwh", "target_table": "halves", "write_mode": "overwrite", "ledger": None}
        run_in_chaos(airflow, Chaos(seed, numbers.connection), map_batch=halve, overwrite_where="id > 0", **options)
        target.execute(f"""
            CREATE TEMP TABLE wanted AS
            SELECT 2 * n AS id, 'half ' || n FROM generate_series(1, {ROWS}) AS n
            UNION ALL SELECT n, 'half ' || n / 2 FROM generate_series(-99, 0) AS n
        """)
        for one, other in (("halves", "wanted"), ("wanted", "halves")):
            assert ask(target, f"SELECT count(*) FROM (TABLE {one} EXCEPT ALL TABLE {other}) AS d") == 0
        assert ask(target, LEFT) == 0
