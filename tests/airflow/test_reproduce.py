"""What the report says about how to process one range again is run: the SQL, the arguments, and the Python code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psycopg
import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.operators.transform import BurlaPostgresTransformOperator
from burla_provider.ranges import plan_ranges
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.reproduce import TableReproduction
from burla_provider.worker.source import Source
from tests.airflow.conftest import Orders
from tests.postgres.ranges.test_table_kinds import KINDS, ROWS
from tests.support.task_runner import Airflow, TaskResult

BAD = 7_777 * 3 + 7 * 5_000
"""The id of row 7,777 of ``orders``."""

DAG_FILE = '''
import json
from pathlib import Path

from burla_provider.decorators.burla_table import burla_postgres_task

BAD = {bad}


def note(ids):
    """Write down the rows of this call, before it fails."""
    ids = sorted(map(int, ids))
    (Path({folder!r}) / "seen.json").write_text(json.dumps(ids)) if BAD in ids else None
    if BAD in ids:
        raise ValueError(f"{{len(ids)}} rows with {{BAD}} and '%'")
    return {{"n": len(ids)}}


def tuples(rows):
    return note([row[0] for row in rows])


def dicts(rows):
    return note([row["id"] for row in rows])


def frames(batches):
    return note([id for batch in batches for id in batch["id"]])


def in_range(connection, key_range):
    query = "SELECT id FROM orders WHERE id BETWEEN %s AND %s AND status <> 'refunded'"
    return note([row[0] for row in connection.execute(query, [key_range.start_id, key_range.end_id])])


def by_condition(rows, key_range):
    assert key_range.start_id <= key_range.end_id
    return note([row[0] for row in rows])


def make_offset():
    return 1


def with_arguments(rows, rate, offset):
    return note([row[0] for row in rows])


class Labeler:
    def __call__(self, rows):
        return note([row[0] for row in rows])


def label(row):
    if row[0] == BAD:
        raise ValueError(f"1 rows with {{BAD}} and '%'")
    return row[0], str(row[1]), 0


def label_dict(row):
    return label((row["id"], row["status"]))


def label_all(rows):
    note([row[0] for row in rows])
    return [label(row) for row in rows]


def label_frame(frame):
    note(frame["id"])
    return [label(row) for row in frame[["id", "status"]].itertuples(index=False, name=None)]


def double(number):
    if number == 3:
        raise ValueError("3 rows with 3 and '%'")
    return 2 * number


@burla_postgres_task(postgres_conn_id="orders_db", table="orders")
def decorated(rows):
    return tuples(rows)
'''


@pytest.fixture
def dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of a DAG file, loaded as Airflow does."""
    path = tmp_path / "orders_dag.py"
    path.write_text(DAG_FILE.format(bad=BAD, folder=str(tmp_path)))
    spec = spec_from_file_location("unusual_prefix_0123abcd_orders_dag", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def run_code(code: str, folder: Path, info: psycopg.ConnectionInfo) -> subprocess.CompletedProcess[str]:
    """Run code as a person does: in the folder of the DAG file, with Airflow's connections."""
    connection = {
        "conn_type": "postgres",
        "host": info.host,
        "port": info.port,
        "login": info.user,
        "password": info.password,
        "schema": info.dbname,
    }
    environment = {**os.environ, "AIRFLOW_CONN_ORDERS_DB": json.dumps(connection), "PYTHONPATH": os.getcwd()}
    (folder / "pasted.py").write_text(code)
    command = [sys.executable, "pasted.py"]
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 1, (process, code)
    return process


def failed_group(result: TaskResult) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the part ``reproduce``, the only group of failures, and its first range."""
    report = result.xcoms["burla_report"]
    [group] = report["failures"]["groups"]
    return report["reproduce"], group, group["ranges"][0]


def fill_in(code: str, one: dict[str, Any]) -> str:
    """Return the code of one range, as the page does."""
    for name, value in (("range", one["where"]), ("key_range", one["key_range"]), ("input", one["input"])):
        if f"{{{name}}}" in code:
            assert value is not None
            code = code.replace(f"{{{name}}}", value)
    return code


def table_operator(**options: Any) -> BurlaPostgresOperator:
    usual = {"table": "orders", "postgres_conn_id": "orders_db", "columns": ["id", "status"], "ranges": 7}
    return BurlaPostgresOperator(
        task_id="t", **{**usual, "where": "status <> 'refunded' AND id::text NOT LIKE '%x'"} | options
    )


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "tuples": ("tuples", {"key": "id"}),
    "dicts": ("dicts", {"row_format": "dict"}),
    "a window of ids": ("tuples", {"start_id": 10, "end_id": 90_000}),
    "pages": ("tuples", {"split": "pages"}),
    "batches": ("frames", {"batch_format": "pandas", "batch_size": 500}),
    "an argument for the range": ("by_condition", {"key": "id"}),
    "a class": ("Labeler", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_are_given_to_the_function_again(
    airflow: Airflow, orders: Orders, dag: ModuleType, tmp_path: Path, case: str
) -> None:
    name, options = CASES[case]
    if "batch_format" in options:
        pytest.importorskip("pandas")
    result = airflow.run(table_operator(process_rows=getattr(dag, name), **options))
    reproduce, group, one = failed_group(result)
    seen = json.loads((tmp_path / "seen.json").read_text())
    rows = orders.connection.execute(reproduce["select"].replace("{range}", one["where"])).fetchall()
    assert sorted(row[0] for row in rows) == seen
    process = run_code(fill_in(reproduce["call"], one), tmp_path, orders.connection.info)
    assert process.stderr.splitlines()[-1] == f"ValueError: {group['message']}", process.stderr
    assert "password" not in reproduce["call"]


@pytest.mark.parametrize("options", [{"key": "id"}, {"key": None}, {"start_id": 10, "end_id": 90_000}])
def test_the_arguments_run_the_range_alone(
    airflow: Airflow, orders: Orders, dag: ModuleType, tmp_path: Path, options: dict[str, Any]
) -> None:
    options = {"split": "histogram", "process_rows": dag.tuples, **options}
    _, group, one = failed_group(airflow.run(table_operator(**options)))
    seen = json.loads((tmp_path / "seen.json").read_text())
    (tmp_path / "seen.json").unlink()
    arguments = eval(f"dict({one['arguments']})")
    again = airflow.run(table_operator(**options | arguments | {"ranges": 1}), run_id="again")
    assert json.loads((tmp_path / "seen.json").read_text()) == seen
    assert failed_group(again)[1]["message"] == group["message"]


def test_a_function_of_a_range_is_called_with_it(
    airflow: Airflow, orders: Orders, dag: ModuleType, tmp_path: Path
) -> None:
    result = airflow.run(table_operator(columns=None, where=None, process_range=dag.in_range))
    reproduce, group, one = failed_group(result)
    process = run_code(fill_in(reproduce["call"], one), tmp_path, orders.connection.info)
    assert process.stderr.splitlines()[-1] == f"ValueError: {group['message']}", process.stderr


WRITERS: dict[str, dict[str, Any]] = {
    "label": {},
    "label_dict": {"row_format": "dict"},
    "label_all": {"batch_size": 100},
    "label_frame": {"batch_format": "pandas"},
}


@pytest.mark.parametrize("name", WRITERS)
def test_functions_that_write_are_called_on_rows(
    airflow: Airflow, orders: Orders, dag: ModuleType, tmp_path: Path, name: str
) -> None:
    if "batch_format" in WRITERS[name]:
        pytest.importorskip("pandas")
    orders.connection.execute("CREATE TABLE labels (id bigint PRIMARY KEY, label text, n int)")
    parameter = "map_batch" if name in ("label_all", "label_frame") else "map_row"
    operator = BurlaPostgresTransformOperator(
        task_id="t",
        postgres_conn_id="orders_db",
        table="orders",
        columns=["id", "status"],
        target_table="labels",
        write_mode="upsert",
        ranges=6,
        **{parameter: getattr(dag, name)},
        **WRITERS[name],
    )
    reproduce, _, one = failed_group(airflow.run(operator))
    process = run_code(fill_in(reproduce["call"], one), tmp_path, orders.connection.info)
    assert "ValueError: " in process.stderr.splitlines()[-1], process.stderr
    assert f"{BAD} and '%'" in process.stderr
    if parameter == "map_row":
        assert str(BAD) in process.stdout


def test_totals_are_reproduced_by_their_select_alone(airflow: Airflow, orders: Orders) -> None:
    options = {"columns": None, "totals": {"inverse": f"sum(1 / (id - {BAD}))"}}
    reproduce, group, one = failed_group(airflow.run(table_operator(**options, where=None)))
    assert reproduce["call"] is None
    with pytest.raises(psycopg.errors.DivisionByZero):
        orders.connection.execute(reproduce["select"].replace("{range}", one["where"]))
    assert group["sqlstate"] == "22012"


def test_a_map_is_called_with_its_input(airflow: Airflow, orders: Orders, dag: ModuleType, tmp_path: Path) -> None:
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=dag.double, inputs=[1, 2, 3]))
    reproduce, group, one = failed_group(result)
    assert (reproduce["select"], one["input"], one["where"]) == (None, "3", None)
    process = run_code(fill_in(reproduce["call"], one), tmp_path, orders.connection.info)
    assert process.stderr.splitlines()[-1] == f"ValueError: {group['message']}", process.stderr


def test_an_input_that_is_not_plain_data_is_not_shown(airflow: Airflow, dag: ModuleType) -> None:
    def fail(value: Any) -> None:
        raise ValueError("no")

    inputs = [dag.Labeler(), "x" * 1000, 1.5, {"a": [1, None]}]
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=fail, inputs=inputs))
    _, _, _ = failed_group(result)
    [group] = result.xcoms["burla_report"]["failures"]["groups"]
    assert {one["index"]: one["input"] for one in group["ranges"]} == {
        0: None,
        1: None,
        2: "1.5",
        3: "{'a': [1, None]}",
    }


def call_of(**options: Any) -> str:
    config = table_operator(**options).make_config()
    call = TableReproduction(config, Source("public", "orders"), plan_of([])).as_dict()["call"]
    assert call is not None
    return call


def plan_of(ranges: list[KeyRange]) -> Any:
    return SimpleNamespace(ranges=ranges)


def test_values_of_arguments_are_not_shown(dag: ModuleType) -> None:
    options: dict[str, Any] = {"op_kwargs": {"rate": "s3cret"}, "init": {"offset": dag.make_offset}}
    call = call_of(process_rows=dag.with_arguments, **options)
    assert "s3cret" not in call
    assert "from orders_dag import make_offset" in call
    assert "init_offset = make_offset()" in call
    assert "with_arguments(iter(cursor), offset=init_offset, **arguments)" in call
    compile(call.replace("{range}", "TRUE"), "call", "exec")


def test_functions_that_cannot_be_imported_are_named(dag: ModuleType) -> None:
    def local(rows: Any) -> dict[str, Any]:
        return {}

    assert "# Paste the code of local here: it cannot be imported." in call_of(process_rows=local)
    assert "# Paste the code of process_rows here" in call_of(process_rows=lambda rows: {})


def test_a_decorated_function_is_taken_from_its_task(dag: ModuleType) -> None:
    function = dag.decorated.function.__wrapped__
    call = call_of(process_rows=function)
    assert "from orders_dag import decorated" in call
    assert "print(decorated.function(iter(cursor)))" in call


KEYS = ("row_id", "id", "region", ["row_id", "region"], None)


@pytest.mark.parametrize("kind", KINDS)
def test_for_every_kind_of_table_and_key(connection: psycopg.Connection[Any], kind: str) -> None:
    connection.execute(KINDS[kind])
    connection.execute(f"{ROWS} FROM generate_series(1, 300) AS n")
    connection.execute("ANALYZE t")
    partitioned = "PARTITION BY" in KINDS[kind]
    where = "region <> 'a%%' OR row_id % 2 = 0"
    source = Source("public", "t", ("row_id", "id", "region"), where, partitioned)
    with_arguments = 0
    for key in KEYS:
        for split in ("pages",) if key is None else ("keyset", "width"):
            if split == "width" and isinstance(key, list | str) and key not in ("row_id", "id"):
                continue
            try:
                plan = plan_ranges(connection, table="t", key=key, split=split, ranges=5, where=where)
            except InvalidParameterError:  # a key that can be NULL
                continue
            options = {"table": "t", "key": key, "process_rows": len, "columns": ["row_id"], "where": where}
            config = table_operator(**options, split=split).make_config()
            reproduction = TableReproduction(config, source, plan)
            select = reproduction.as_dict()["select"]
            assert select is not None
            for key_range in plan.ranges:
                place = reproduction.place(key_range.index)
                rows = sorted(connection.execute(source.select(source.column_list, key_range)).fetchall(), key=str)
                assert place.where is not None
                found = connection.execute(select.replace("{range}", place.where)).fetchall()
                assert sorted(found, key=str) == rows
                if place.arguments is None:
                    continue
                with_arguments += 1
                assert_same_rows(connection, source, place.arguments, key, rows)
    assert with_arguments


def assert_same_rows(
    connection: psycopg.Connection[Any], source: Source, arguments: str, key: Any, rows: list[Any]
) -> None:
    request = {"table": "t", "key": key} | eval(f"dict({arguments})")
    plan = plan_ranges(connection, **request, ranges=2, where=source.where)
    alone = Source(plan.schema, plan.table, source.columns, source.where, source.partitioned)
    found = [
        row
        for key_range in plan.ranges
        for row in connection.execute(alone.select(alone.column_list, key_range)).fetchall()
    ]
    assert sorted(found, key=str) == rows, arguments
