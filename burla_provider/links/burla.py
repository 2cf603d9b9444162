"""The button that opens a task's job in Burla's dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink

from burla_provider.links.xcom import push_to_database

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey

_URL_ATTRIBUTE = "_burla_job_url"
"""Attribute of the running operator that holds the URL of its job."""


class BurlaJobLink(BaseOperatorLink):
    """Opens the job's page in Burla's dashboard. It works as soon as the job exists."""

    name = "Burla job"
    xcom_key = "burla_job_url"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL that the running task has published; "" if there is none."""
        # Airflow stores the return value when the task ends. XCom is not read here: all passes of a loop share its key.
        return getattr(operator, _URL_ATTRIBUTE, "")

    @classmethod
    def publish(cls, context: Context, url: str) -> None:
        """Set the button's URL while the task runs.

        :param url: the job's page; "" on the local engine.
        """
        setattr(context["task"], _URL_ATTRIBUTE, url)
        push_to_database(context, cls.xcom_key, url)
