"""Remove secrets from a text that is stored in XCom and in the task state store, where Airflow masks nothing."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import redact

from burla_provider.task.logs import without_markers
from burla_provider.worker.json_values import storable_text


def masked(text: str) -> str:
    """Return a text without the secrets that Airflow knows, which a JSON column can store."""
    return storable_text(without_markers(str(redact(text))))


def masked_json(value: Any) -> Any:
    """Return JSON data with all its texts masked, except the names of the fields.

    Airflow's own ``redact`` masks nothing below the fifth level.
    """
    match value:
        case str():
            return masked(value) if value else value
        case dict():
            return {name: masked_json(part) for name, part in value.items()}
        case list() | tuple():
            return [masked_json(part) for part in value]
        case _:
            return value
