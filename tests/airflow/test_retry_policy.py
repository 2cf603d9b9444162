"""The retry policy of the example ``patient_checks``: a long wait for a busy cluster, and no retry after bad data."""

from __future__ import annotations

import importlib.util
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from burla_provider.exceptions import ClusterBusyError
from burla_provider.hooks.burla import BurlaHook
from tests.airflow.conftest import Orders
from tests.support.dag_runs import needs_newer_airflow
from tests.support.task_runner import Airflow

PATH = Path(__file__).parents[2] / "dags" / "patient_checks.py"
pytestmark = pytest.mark.skipif(needs_newer_airflow(PATH) is not None, reason="retry policies came with Airflow 3.3")


@pytest.fixture
def check() -> Any:
    """The task of the DAG."""
    spec = importlib.util.spec_from_file_location("patient_checks", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.patient_checks().get_task("check_amounts")


def test_good_data_has_its_total(airflow: Airflow, orders: Orders, check: Any) -> None:
    result = airflow.run(check, max_tries=20)
    assert result.state == "success", result.log
    assert Decimal(result.value["total_amount"]) == orders.ask("sum(amount)")


def test_a_busy_cluster_is_retried_after_a_long_time(
    airflow: Airflow, orders: Orders, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any, **__: Any) -> Any:
        raise ClusterBusyError("No node was free within queue_timeout=600 seconds.")

    monkeypatch.setattr(BurlaHook, "run", busy)
    result = airflow.run(check, max_tries=20)
    assert result.state == "up_for_retry"
    [retry] = [message for message in airflow.messages if type(message).__name__ == "RetryTask"]
    assert retry.retry_delay_seconds == 15 * 60
    assert "No node is free" in retry.retry_reason


def test_bad_data_fails_without_a_retry(airflow: Airflow, orders: Orders, check: Any) -> None:
    orders.connection.execute("UPDATE orders SET amount = -1 WHERE id = (SELECT min(id) FROM orders)")
    result = airflow.run(check, max_tries=20)
    assert result.state == "failed"
    assert type(result.error).__name__ == "RangesFailedError"
    assert "has the negative amount" in result.log
