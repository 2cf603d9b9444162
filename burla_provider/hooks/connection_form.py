"""The fields of a ``burla`` connection as people see them: one description for every Airflow version."""

from __future__ import annotations

from typing import Any

CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "engine": {
        "label": "Engine",
        "description": "burla: on the cluster. local: in worker processes on the Airflow machine, to try things out.",
        "schema": {"type": ["string", "null"], "enum": ["burla", "local"], "default": "burla"},
    },
    "project_id": {
        "label": "Project",
        "description": "The Burla project, as `burla login` shows it. Needed only where a user has several.",
        "schema": {"type": ["string", "null"]},
    },
    "python": {
        "label": "Client interpreter",
        "description": "Path of another Python that has burla, where Airflow's own cannot have it. "
        "`python -m burla_provider.jobs.setup_client PATH` makes one.",
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
        "host": "https://burla.example.com (empty: what `burla login` saved)",
        "login": "you@example.com",
        "password": "auth_token of burla_credentials.json",
        "port": "only where the URL does not carry it",
    },
}


def form_widgets() -> dict[str, Any]:
    """The same fields as wtforms widgets, which is what Airflow 3.1 reads."""
    from wtforms import BooleanField, StringField

    kinds = {"boolean": BooleanField}
    return {
        name: kinds.get(field["schema"]["type"][0], StringField)(field["label"], description=field["description"])
        for name, field in CONNECTION_FIELDS.items()
    }
