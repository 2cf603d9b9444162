"""The fields of a ``burla`` connection as people see them: one description for every Airflow version."""

from __future__ import annotations

from typing import Any

CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "engine": {
        "label": "Engine",
        "description": "Where ranges are worked. On the Airflow machine is for trying things out: it needs no cluster.",
        "schema": {
            "type": ["string", "null"],
            "enum": ["burla", "local"],
            "values_display": {"burla": "burla: on the cluster", "local": "local: on the Airflow machine"},
            "default": "burla",
        },
    },
    "project_id": {
        "label": "Project",
        "description": 'The Burla project, as "burla login" shows it. Needed only where a user has several.',
        "schema": {"type": ["string", "null"]},
    },
    "python": {
        "label": "Client interpreter",
        "description": "Path of another Python that has burla, where Airflow's own cannot have it. "
        "To make one: python -m burla_provider.jobs.setup_client DIRECTORY",
        "schema": {"type": ["string", "null"]},
    },
    "telemetry": {
        "label": "Telemetry",
        "description": "Let Burla's client send its telemetry, tracebacks included, to Burla.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
}
"""Name in the connection's extra -> label, help text and JSON schema (the grammar of ``conn-fields``)."""

FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema"],
    "relabeling": {"host": "Cluster URL", "login": "E-mail", "password": "Auth token"},
    "placeholders": {
        "host": 'https://burla.example.com (empty: what "burla login" saved)',
        "login": "you@example.com",
        "password": "auth_token of burla_credentials.json",
        "port": "443, or the port in the URL: without one, Airflow 3.3 refuses to test",
    },
}


def form_widgets() -> dict[str, Any]:
    """The same fields as wtforms widgets, which is what Airflow 3.1 reads."""
    from wtforms import BooleanField, StringField
    from wtforms.validators import any_of

    def widget(label: str, description: str, schema: dict[str, Any]) -> Any:
        kind = BooleanField if "boolean" in schema["type"] else StringField
        checks = [any_of(schema["enum"])] if "enum" in schema else []
        return kind(label, checks, description=description, default=schema.get("default"))

    return {name: widget(**field) for name, field in CONNECTION_FIELDS.items()}
