"""Remove secrets from a text that is stored in XCom and in the task state store, where Airflow masks nothing."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import redact

from burla_provider.task.logs import without_markers
from burla_provider.worker.json_values import storable_text


def masked(text: str) -> str:
    """Return a text without the secrets that Airflow knows, which a JSON column can store."""
    return storable_text(without_markers(str(redact(text))))
