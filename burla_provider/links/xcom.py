"""XComs that Airflow's UI reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def push_to_database(context: Context, key: str, value: Any) -> None:
    """Push an XCom to Airflow's database, also if a custom XCom backend stores values elsewhere.

    Airflow's UI and API read the database only. There they would find what the backend has returned, such as a path.
    """
    from airflow.sdk.bases.xcom import BaseXCom

    ti: Any = context["ti"]
    BaseXCom.set(key, value, dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index)
