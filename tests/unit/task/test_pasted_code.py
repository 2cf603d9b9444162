"""The code of a failure that a person can paste names the user's function."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.dom.minidom import parseString

import pytest

from burla_provider.task.function_arguments import bind_function
from burla_provider.task.pasted_code import FunctionCode


def code_of(function: Any, parameter: str = "process_rows") -> tuple[str, str]:
    """The code, and a call of the function in it."""
    code = FunctionCode(parameter, bind_function(parameter, function, {}))
    return code.plain([]), code.call("rows")


def test_a_function_of_a_package_is_imported_from_its_module() -> None:
    text, call = code_of(parseString)
    assert "from xml.dom.minidom import parseString" in text
    assert call == "parseString(rows)"


@pytest.mark.parametrize("module", ["__main__", "unusual_prefix_0123_orders_dag"])
def test_a_function_of_a_dag_file_is_imported_from_the_file(tmp_path: Path, module: str) -> None:
    file = tmp_path / "orders_dag.py"
    file.write_text("def count(rows): return {}\n")
    variables = {"__name__": module}
    exec(compile(file.read_text(), file, "exec"), variables)
    text, call = code_of(variables["count"])
    assert "# Run this where Airflow runs, in the folder of orders_dag.py." in text
    assert "from orders_dag import count" in text
    assert call == "count(rows)"


@pytest.mark.parametrize("parameter", ["process_rows", "python_callable"])
def test_a_lambda_has_the_name_of_its_parameter(parameter: str) -> None:
    text, call = code_of(lambda rows: {}, parameter)
    assert f"# Paste the code of {parameter} here: it cannot be imported." in text
    assert call == f"{parameter}(rows)"
