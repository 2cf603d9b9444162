"""The form of a ``burla`` connection in Airflow's UI, for all versions of Airflow."""

from __future__ import annotations

from typing import Any

from burla_provider.jobs.job import ENGINES

CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "engine": {
        "label": "Engine",
        "description": "Where jobs run. The local engine needs no cluster: functions run on the machine of the task.",
        "schema": {
            "type": ["string", "null"],
            "enum": list(ENGINES),
            "values_display": {name: f"{name}: {kind.place}" for name, kind in ENGINES.items()},
            "default": "burla",
        },
    },
    "project_id": {
        "label": "Project",
        "description": 'The Burla project, as "burla login" shows it. Required only if the user has several projects.',
        "schema": {"type": ["string", "null"]},
    },
    "python": {
        "label": "Client interpreter",
        "description": "Path of a Python interpreter that has burla, if burla is not installed next to Airflow. "
        "To create one: python -m burla_provider.jobs.setup_client DIRECTORY",
        "schema": {"type": ["string", "null"]},
    },
    "telemetry": {
        "label": "Telemetry",
        "description": "Let Burla's client send telemetry, which includes tracebacks, to Burla.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
}
"""Field of the connection's extra -> label, help text and JSON schema, in the format of ``conn-fields``."""

FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema"],
    "relabeling": {"host": "Cluster URL", "login": "E-mail", "password": "Auth token"},
    "placeholders": {
        "host": 'https://burla.example.com (empty: the login that "burla login" saved)',
        "login": "you@example.com",
        "password": "auth_token in burla_credentials.json",
        "port": "443, or the port in the URL (Airflow 3.3 needs it to test the connection)",
    },
}


def form_widgets() -> dict[str, Any]:
    """Return the fields as wtforms widgets, which Airflow 3.1 reads."""
    from wtforms import BooleanField, StringField
    from wtforms.validators import any_of

    def widget(label: str, description: str, schema: dict[str, Any]) -> Any:
        field_class = BooleanField if "boolean" in schema["type"] else StringField
        validators = [any_of(schema["enum"])] if "enum" in schema else []
        return field_class(label, validators, description=description, default=schema.get("default"))

    return {name: widget(**field) for name, field in CONNECTION_FIELDS.items()}
