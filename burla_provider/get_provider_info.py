"""The metadata by which Airflow discovers this provider."""

from __future__ import annotations

from typing import Any

from burla_provider import __version__
from burla_provider.hooks.connection_form import CONNECTION_FIELDS, FIELD_BEHAVIOUR


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, as defined by ``airflow/provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-burla",
        "name": "Burla",
        "description": "Process every row of a large PostgreSQL table with Python, in parallel on "
        "`Burla <https://docs.burla.dev>`__.",
        "versions": [__version__],
        "integrations": [
            {"integration-name": "Burla", "external-doc-url": "https://docs.burla.dev", "tags": ["service"]},
        ],
        "hooks": [{"integration-name": "Burla", "python-modules": ["burla_provider.hooks.burla"]}],
        "operators": [
            {
                "integration-name": "Burla",
                "python-modules": [
                    "burla_provider.operators.map",
                    "burla_provider.operators.postgres",
                    "burla_provider.operators.transform",
                ],
            }
        ],
        "task-decorators": [
            {"name": "burla", "class-name": "burla_provider.decorators.burla.burla_task"},
            {"name": "burla_postgres", "class-name": "burla_provider.decorators.burla_table.burla_postgres_task"},
            {"name": "burla_transform", "class-name": "burla_provider.decorators.burla_table.burla_transform_task"},
        ],
        "extra-links": ["burla_provider.links.burla.BurlaJobLink"],
        "connection-types": [
            {
                "connection-type": "burla",
                "hook-class-name": "burla_provider.hooks.burla.BurlaHook",
                "hook-name": "Burla",
                "conn-fields": CONNECTION_FIELDS,
                "ui-field-behaviour": FIELD_BEHAVIOUR,
            }
        ],
    }
