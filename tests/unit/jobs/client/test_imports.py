"""Files in jobs/client/ run in an interpreter that may have neither Airflow nor this package."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from burla_provider.jobs import client

FILES = sorted(path for path in Path(client.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_only_the_standard_library_and_burla_are_imported(file):
    nodes = list(ast.walk(ast.parse(file.read_text())))
    imported = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)}
    packages = {name.partition(".")[0] for name in imported}
    allowed = {*sys.stdlib_module_names, *(["burla"] if file.name == "burla_engine.py" else [])}
    assert packages <= allowed
