"""Tasks whose functions get batches: pandas, Polars, Arrow."""

from __future__ import annotations

from decimal import Decimal
from importlib import metadata
from typing import Any, get_args

import psycopg
import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.jobs.job import Engine
from burla_provider.jobs.requirements import requirements_for
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.task.config import BatchFormat
from tests.airflow.conftest import Orders
from tests.airflow.test_transform import assert_written, label_all, labels  # noqa: F401 (a fixture)
from tests.airflow.test_transform import operator as transform
from tests.support.task_runner import Airflow

FORMATS = get_args(BatchFormat)
TOTALS = {"process_rows": None, "totals": {"n": "count(*)"}}


def operator(**options: Any) -> BurlaPostgresOperator:
    usual = {"table": "orders", "postgres_conn_id": "orders_db", "columns": ["id", "amount"], "ranges": 4}
    return BurlaPostgresOperator(**{"task_id": "t", "max_parallelism": 2, **usual, **options})


def add_up(batches: Any) -> dict[str, Any]:

    import pyarrow.compute as pc

    total, kinds = Decimal(0), set()
    for batch in batches:
        kinds.add(type(batch).__module__.partition(".")[0])
        amounts = batch["amount"]
        total += pc.sum(amounts).as_py() if "pyarrow" in kinds else amounts.sum()
    return {"total": total, **dict.fromkeys(kinds, 0)}


@pytest.mark.parametrize("batch_format", FORMATS)
@pytest.mark.parametrize("batch_size", [None, 777])
def test_a_function_of_batches_returns_the_total_of_a_query(
    airflow: Airflow, orders: Orders, batch_format: Any, batch_size: Any
) -> None:
    result = airflow.run(operator(process_rows=add_up, batch_format=batch_format, batch_size=batch_size))
    assert result.state == "success", result.error
    package = "pyarrow" if batch_format == "arrow" else batch_format
    assert result.value == {"row_count": 20_000, "total": str(orders.ask("sum(amount)")), package: 0}


def label_pandas(frame: Any) -> Any:
    return frame.assign(label=frame["status"].str.upper(), doubled=frame["amount"] * 2)[["doubled", "label", "id"]]


def label_polars(frame: Any) -> Any:
    import polars as pl

    return frame.select("id", label=pl.col("status").str.to_uppercase(), doubled=pl.col("amount") * 2)


def label_arrow(batch: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    doubled = pc.multiply(batch["amount"], pa.scalar(2))
    return pa.table({"id": batch["id"], "label": pc.utf8_upper(batch["status"]), "doubled": doubled})


FUNCTIONS = {"pandas": label_pandas, "polars": label_polars, "arrow": label_arrow}


@pytest.mark.parametrize("batch_format", FORMATS)
@pytest.mark.parametrize("write_mode", ["insert", "upsert"])
def test_a_batch_is_written(
    airflow: Airflow,
    labels: psycopg.Connection[Any],  # noqa: F811
    batch_format: Any,
    write_mode: str,
) -> None:
    task = transform(
        map_batch=FUNCTIONS[batch_format], batch_format=batch_format, write_mode=write_mode, ledger="ledger"
    )
    result = airflow.run(task)
    assert result.state == "success", result.error
    assert result.value["row_count"] == 20_000
    assert_written(labels)


@pytest.mark.parametrize("batch_format", FORMATS)
def test_a_batch_is_updated_in_place(airflow: Airflow, orders: Orders, batch_format: Any) -> None:
    def note(batch: Any) -> Any:
        import polars as pl
        import pyarrow as pa

        notes = [
            f"{status}!"
            for status in (batch["status"].to_pylist() if isinstance(batch, pa.RecordBatch) else batch["status"])
        ]
        return pl.DataFrame({"note": notes})

    options = {"target_table": None, "columns": ["status"], "write_mode": "update", "update_columns": ["note"]}
    result = airflow.run(transform(map_batch=note, batch_format=batch_format, batch_size=500, **options))
    assert result.state == "success", result.error
    assert result.value["rows_updated"] == 20_000
    assert orders.ask("count(*) FILTER (WHERE note = status || '!')") == 20_000


def test_a_function_that_returns_other_columns_fails_with_their_names(
    airflow: Airflow,
    labels: Any,  # noqa: F811
) -> None:
    result = airflow.run(transform(map_batch=lambda frame: frame, batch_format="pandas", ranges=1))
    assert result.state == "failed"
    message = "map_batch returned a DataFrame with the columns id, status, amount. Return those of target_columns: id, "
    assert message in str(result.error)


@pytest.mark.parametrize("returned", [lambda batch: batch, lambda batch: [(1, 2)], lambda batch: [{"amount": 1}]])
def test_the_error_for_other_columns_names_update_columns(airflow: Airflow, orders: Orders, returned: Any) -> None:
    options = {"target_table": None, "columns": ["status"], "write_mode": "update", "update_columns": ["note"]}
    result = airflow.run(transform(map_batch=returned, batch_format="pandas", batch_size=1, ranges=1, **options))
    assert result.state == "failed"
    assert "of update_columns: note" in str(result.error)


def test_the_old_name_of_arrow_batches_still_works_with_a_warning(airflow: Airflow, orders: Orders) -> None:
    from airflow.exceptions import AirflowProviderDeprecationWarning

    message = r'row_format="arrow" is deprecated. Use batch_format="arrow".'
    with pytest.warns(AirflowProviderDeprecationWarning, match=message):
        task = operator(process_rows=add_up, row_format="arrow", requirements=["pyarrow"])
    with pytest.warns(AirflowProviderDeprecationWarning, match=message):
        result = airflow.run(task)
    assert result.value == {"row_count": 20_000, "total": str(orders.ask("sum(amount)")), "pyarrow": 0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_format": "numpy"}, 'batch_format: \'numpy\' is unknown. Use "pandas", "polars", "arrow" or None.'),
        ({"batch_format": "pandas", "row_format": "dict"}, "row_format: is not used with batch_format."),
        ({"batch_format": "pandas", "batch_size": 0}, "batch_size: must be an integer >= 1, got 0."),
        ({"batch_size": 10}, "batch_size: is for batches, and process_rows gets single rows."),
        (
            {"process_rows": None, "totals": {"n": "count(*)"}, "batch_format": "arrow"},
            "batch_format: is for process_rows.",
        ),
        ({"process_rows": None, "totals": {"n": "count(*)"}, "batch_size": 5}, "batch_size: is for process_rows."),
    ],
)
def test_formats_that_cannot_be_used_are_refused_at_parse(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError) as raised:
        operator(**{"process_rows": add_up, **options})
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("option", [{"batch_format": "pandas"}, {"batch_size": 10}])
def test_map_row_has_no_batches(option: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError, match=r"is for map_batch, and map_row gets single rows\."):
        transform(**option)
    with pytest.raises(InvalidParameterError, match="row_format: 'arrow' is unknown"):
        transform(map_batch=label_all, row_format="arrow")


def test_workers_install_the_packages_of_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = requirements_for(Engine("burla"), ["polars", "pyarrow"], "batch_format")
    assert pins["polars"] == f"polars=={metadata.version('polars')}"
    monkeypatch.setattr("burla_provider.jobs.requirements._installed", lambda name: None)
    with pytest.raises(InvalidParameterError) as raised:
        requirements_for(Engine("burla"), ["pandas", "pyarrow"], "batch_format")
    assert str(raised.value) == (
        "batch_format: 'pandas' is not installed here, so its version is unknown. Install it, or give its version:"
        ' requirements=["pandas==1.0"].'
    )


def test_a_package_that_the_local_engine_lacks_is_named(
    airflow: Airflow, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(name: str) -> Any:
        return None if name == "polars" else metadata.distribution(name)

    monkeypatch.setattr("burla_provider.jobs.requirements._installed", without)
    result = airflow.run(operator(process_rows=add_up, batch_format="polars"), max_tries=3)
    assert result.state == "failed"
    assert "batch_format: the local engine's interpreter has no polars. Install polars there" in str(result.error)
    assert "Job local" not in result.log


def test_a_version_that_the_user_gives_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from burla_provider.task.job_runner import JobRunner

    config = SimpleNamespace(
        requirements=["Pandas==2.2.3"], worker_requirements=(), batch_packages=("pandas", "pyarrow")
    )
    runner = JobRunner(config, {}, SimpleNamespace(engine=Engine("burla")), None, None)  # type: ignore[arg-type]
    pins = runner._pins
    assert pins is not None
    assert pins["pandas"] == "Pandas==2.2.3"
    assert pins["pyarrow"] == f"pyarrow=={metadata.version('pyarrow')}"


@pytest.mark.parametrize(
    ("options", "is_hinted"),
    [({"func_gpu": "A100"}, True), ({"func_gpu": "A100", "batch_size": 64}, False), ({}, False)],
    ids=str,
)
def test_a_gpu_without_a_batch_size_is_worth_a_hint(
    airflow: Airflow, orders: Orders, options: dict[str, Any], is_hinted: bool
) -> None:
    result = airflow.run(operator(process_rows=add_up, batch_format="arrow", plan_only=True, **options))
    assert ("Hint: func_gpu is given without batch_size." in result.log) is is_hinted
