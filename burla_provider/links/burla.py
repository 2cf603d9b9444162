"""The button on a task that opens its job in Burla's dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey

_URL = "_burla_job_url"
"""Attribute of the operator that is running: the page of its job."""


class BurlaJobLink(BaseOperatorLink):
    """Opens the job's page in Burla's dashboard. There from the moment the job exists."""

    name = "Burla job"
    xcom_key = "burla_job_url"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        # Airflow stores what this answers when the task ends: hand back what the running task pushed. Do not read it
        # from XCom: its key is the same in every pass of a loop.
        return getattr(operator, _URL, "")

    @classmethod
    def publish(cls, context: Context, url: str) -> None:
        """Make the button work, while the task still runs. Without a page (the local engine) ``url`` is empty."""
        setattr(context["task"], _URL, url)
        context["ti"].xcom_push(key=cls.xcom_key, value=url)
