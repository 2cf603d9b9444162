"""The types of the decorators."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.decorator_stub import MAP, TABLE, make_map_stub, make_table_stub

ROOT = Path(__file__).parents[3]

GOOD = """
from burla_provider.decorators.burla import burla_task
from burla_provider.decorators.burla_table import burla_postgres_task, burla_transform_task

@burla_task
def square(number: int) -> int: return number * number
@burla_task(max_parallelism=10, func_ram="dynamic", trial_inputs="{{ params.trial }}", retries=2)
def cube(number: int) -> int: return number ** 3
@burla_postgres_task(table="orders", batch_format="pandas", split="pages")
def count(rows: object) -> dict[str, int]: return {}
@burla_transform_task(table="orders", target_table="copies", write_mode="upsert")
def copy(row: object) -> object: return row

reveal_type(square)
reveal_type(cube)
square([1, 2])
"""
NO_OVERLOAD = 'No overload variant of "burla_task" matches argument type'
BAD = [
    ("@burla_task(max_parallelism='many')\ndef f(x: int) -> int: return x", NO_OVERLOAD),
    ("@burla_task(on_input_failure=3)\ndef f(x: int) -> int: return x", NO_OVERLOAD),
    ("@burla_task(init=3)\ndef f(x: int) -> int: return x", NO_OVERLOAD),
    ("@burla_postgres_task()\ndef f(rows: object) -> dict[str, int]: return {}", 'Missing named argument "table"'),
    ("@burla_postgres_task(table='t', batch_format='csv')\ndef f(rows: object) -> None: ...", '"batch_format"'),
    ("@burla_transform_task(table='t', write_mode='replace')\ndef f(row: object) -> None: ...", '"write_mode"'),
    ("@burla_transform_task(table='t')\ndef f(row: object) -> None: ...", 'Missing named argument "write_mode"'),
]


def test_the_decorators_have_the_typed_parameters_of_the_operators() -> None:
    assert TABLE.read_text() == make_table_stub(), "Run: python -m tests.support.decorator_stub"
    assert MAP.read_text() == make_map_stub(), "Run: python -m tests.support.decorator_stub"


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy says about each file, by the name of the file."""
    directory = tmp_path_factory.mktemp("decorated")
    first, _, rest = GOOD.partition("\n@")
    (directory / "good.py").write_text(f"{first}\n@{rest}")
    for number, (text, _) in enumerate(BAD):
        (directory / f"bad_{number}.py").write_text(f"{first}\n{text}\n")
    # With the options and the cache of `make lint`, it need not read Airflow again.
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    found = subprocess.run(
        [*command, *map(str, sorted(directory.glob("*.py")))], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "bad_0.py" in found.stdout, found.stdout + found.stderr
    lines = found.stdout.splitlines()
    return {path.stem: [line for line in lines if path.name in line] for path in directory.glob("*.py")}


def test_decorated_functions_have_types(checked: dict[str, list[str]]) -> None:
    first, second, *others = checked["good"]
    assert others == []
    # The argument of a call is the list of items, and the result is a list.
    assert re.search(r"\bTask\[.*, (builtins\.)?list\[(builtins\.)?int\]\]", first)
    assert re.search(r"\bTask\[.*, (builtins\.)?list\[(builtins\.)?int\]\]", second)


@pytest.mark.parametrize("number", range(len(BAD)))
def test_a_wrong_parameter_is_an_error(checked: dict[str, list[str]], number: int) -> None:
    errors = [line for line in checked[f"bad_{number}"] if "error:" in line]
    assert BAD[number][1] in " ".join(errors)
