"""How Airflow sees the package: discovery, the connection type, the example DAGs."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.sdk import Connection

from burla_provider import __version__
from burla_provider.get_provider_info import get_provider_info
from burla_provider.hooks.burla import read_engine
from burla_provider.hooks.connection_form import CONNECTION_FIELDS, FIELD_BEHAVIOUR
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.operators.transform import BurlaPostgresTransformOperator
from tests.support.dag_runs import needs_newer_airflow

ROOT = Path(__file__).parents[2]
OPERATORS = (BurlaPostgresOperator, BurlaPostgresTransformOperator, BurlaMapOperator)
DAGS = ROOT / "dags"


def load(path: Path) -> Any:
    """The DAGs of a file."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag
    return DagBag(dag_folder=str(path))


def test_the_provider_info_fits_airflows_own_schema() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_airflow_discovers_the_provider() -> None:
    command = [sys.executable, "-m", "airflow", "providers", "get", "airflow-provider-burla", "--output", "json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(answer.stdout[answer.stdout.index("[{") :])[0]
    assert found["Provider"] == "airflow-provider-burla"
    assert found["Version"] == __version__


def test_airflow_shows_the_link_of_a_job() -> None:
    """It shows only links that a provider has registered."""
    from airflow.providers_manager import ProvidersManager

    [link] = BurlaMapOperator.operator_extra_links
    assert f"{type(link).__module__}.{type(link).__qualname__}" in ProvidersManager().extra_links_class_names


def test_the_connection_type_and_the_decorator_are_registered() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert manager.hooks["burla"] is not None
    assert {"burla", "burla_postgres", "burla_transform"} <= dict(manager.taskflow_decorators).keys()


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_the_registry_recognizes_a_durable_operator(operator: type) -> None:
    # The registry's script (dev/registry of Airflow's repository) looks for the mangled name in the class that has
    # ``execute``. Nothing that is installed with Airflow 3.3 reads it.
    [owner] = [base for base in operator.__mro__ if "execute" in vars(base) and base.__module__.startswith("burla")]
    assert vars(owner)[f"_{owner.__name__}__supports_durable_execution"] is True


PRINT_FORM = """
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
[form] = [form for form in HookMetaService.hook_meta_data() if form.connection_type == "burla"]
print(form.model_dump_json())
"""


def test_the_connection_form_has_our_fields() -> None:
    # In a process of its own, as in the API server: once Airflow 3.1 has loaded the hooks elsewhere, it has no forms.
    answer = subprocess.run([sys.executable, "-c", PRINT_FORM], capture_output=True, text=True, check=True)
    form = json.loads(answer.stdout.splitlines()[-1])
    standard, extra = form["standard_fields"], form["extra_fields"]
    assert (standard["host"]["title"], standard["password"]["title"]) == ("Cluster URL", "Auth token")
    assert list(extra) == list(CONNECTION_FIELDS)
    schema = extra["engine"]["schema"]
    assert (schema["title"], schema["enum"], schema["type"]) == ("Engine", ["burla", "local"], ["string", "null"])
    assert list(schema.get("values_display") or schema["enum"]) == ["burla", "local"]
    assert {name: field["schema"]["title"] for name, field in extra.items()} == {
        name: field["label"] for name, field in CONNECTION_FIELDS.items()
    }
    assert {field["schema"]["type"][-1] for field in extra.values()} == {"null"}  # none is required


def connection_commands() -> list[str]:
    """The commands on all pages that create a connection."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    lines = "\n".join(page.read_text().replace("\\\n", " ") for page in pages).splitlines()
    commands = [line.strip().removeprefix("$ ") for line in lines]
    return sorted({command for command in commands if command.startswith("airflow connections add ")})


@pytest.mark.parametrize("command", connection_commands())
def test_a_connection_that_a_page_creates_can_be_used(command: str) -> None:
    from airflow.cli.cli_parser import get_parser

    options = get_parser().parse_args(shlex.split(command)[1:])
    # Airflow 3.3 cannot test a connection without a port.
    assert options.conn_host is None or options.conn_port
    names = ("host", "schema", "login", "password", "extra")
    fields = {name: getattr(options, f"conn_{name}") for name in names}
    port = int(options.conn_port) if options.conn_port else None
    connection = Connection(conn_id=options.conn_id, conn_type=options.conn_type, port=port, **fields)
    if options.conn_type == "burla":
        engine = read_engine(connection)
        assert engine.name == "local" or engine.url == f"{options.conn_host}:{options.conn_port}"
    else:
        assert options.conn_type == "postgres"


def test_the_examples_in_the_form_can_be_used() -> None:
    hints = {field: hint.split()[0].rstrip(",") for field, hint in FIELD_BEHAVIOUR["placeholders"].items()}
    fields = {"host": hints["host"], "port": int(hints["port"]), "login": hints["login"], "password": "token"}
    engine = read_engine(Connection(conn_id="c", conn_type="burla", **fields))
    assert (engine.url, engine.email) == ("https://burla.example.com:443", "you@example.com")


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_dag_imports_without_errors(path: Path) -> None:
    if reason := needs_newer_airflow(path):
        pytest.skip(reason)
    bag = load(path)
    assert bag.import_errors == {}
    [dag] = bag.dags.values()
    assert dag.doc_md
    assert dag.tags


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_dag_survives_serialization(path: Path) -> None:
    if reason := needs_newer_airflow(path):
        pytest.skip(reason)
    from airflow.serialization import serialized_objects

    # Airflow 3.1 has another name for it.
    serialization = getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG
    [dag] = load(path).dags.values()
    again = serialization.from_dict(json.loads(json.dumps(serialization.to_dict(dag))))
    assert again.task_ids == dag.task_ids


def test_parsing_an_operator_imports_neither_burla_nor_a_driver() -> None:
    heavy = ["burla", "psycopg", "pandas", "airflow.providers.postgres.hooks.postgres"]
    code = (
        "import sys, burla_provider.operators.postgres, burla_provider.operators.map, burla_provider.decorators.burla,"
        " burla_provider.decorators.burla_table\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip().splitlines()[-1] == "[]"
