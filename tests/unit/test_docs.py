"""What the documentation quotes is what the code says."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def said_by_the_code() -> str:
    """All texts of the package; a text that goes on in the next line is one."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "burla_provider").rglob("*.py")]
    constants = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return "\n".join(text for text in constants if isinstance(text, str))


QUOTED = re.findall(r"^### `(.*)`$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.M)


@pytest.fixture(scope="module")
def texts() -> str:
    return said_by_the_code()


@pytest.mark.parametrize("message", QUOTED)
def test_a_message_in_the_troubleshooting_guide_exists(message: str, texts: str) -> None:
    for part in filter(None, (part.strip(" :") for part in message.split("…"))):
        assert part in texts


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("nav:")[2]
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert pages == set(re.findall(r"(\S+\.md)$", navigation, re.M))


RESULTS = (ROOT / "benchmarks" / "RESULTS.md").read_text()
SECTIONS = {"Totals": "Count and sum(amount) of all orders", "Python per row": "A Python function on every order"}


def table_below(text: str, heading: str) -> list[dict[str, str]]:
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("| ")]
    names, *values = [[cell.strip() for cell in row] for row in rows]
    return [dict(zip(names, row, strict=False)) for row in values]


@pytest.mark.parametrize(("heading", "heading_in_results"), SECTIONS.items())
def test_a_table_of_benchmarks_is_the_measured_one(heading: str, heading_in_results: str) -> None:
    page = (ROOT / "docs" / "reference" / "benchmarks.md").read_text()
    measured = {row["side"]: row for row in table_below(RESULTS, heading_in_results)}
    rows = table_below(page, heading)
    assert len(rows) >= 10
    for row in rows:
        assert row == {name: measured[row["side"]].get(name, "") for name in row}


@pytest.mark.parametrize("page", ["alternatives.md", "reference/benchmarks.md"])
def test_seconds_in_the_text_were_measured(page: str) -> None:
    seconds = re.findall(r"([\d.]+) s\b", (ROOT / "docs" / page).read_text())
    assert seconds
    assert set(seconds) <= set(re.findall(r"\d+(?:\.\d+)?", RESULTS))


def test_every_example_dag_is_in_the_gallery() -> None:
    gallery = (ROOT / "docs" / "examples.md").read_text()
    headings = re.findall(r"^## (\w+)$", gallery, re.M)
    included = re.findall(r'^    --8<-- "dags/(\w+)\.py"$', gallery, re.M)
    listed = re.findall(r"^\| \[`\w+`\]\(#(\w+)\) \|", gallery, re.M)
    assert included == listed == [name for name in headings if name in included]
    assert set(included) == {path.stem for path in (ROOT / "dags").glob("*.py")}


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    [
        "base.BurlaBaseOperator",
        "map.BurlaMapOperator",
        "postgres.BurlaPostgresOperator",
        "table.BurlaTableOperator",
        "transform.BurlaPostgresTransformOperator",
    ],
)
def test_every_parameter_of_an_operator_is_in_the_reference(hooks: ModuleType, name: str) -> None:
    place = f"<!-- parameters: burla_provider.operators.{name} -->"
    assert place in (ROOT / "docs" / "reference" / "operators.md").read_text()
    page = hooks.on_page_markdown(place)
    module, _, class_name = name.partition(".")
    source = (ROOT / "burla_provider" / "operators" / f"{module}.py").read_text()
    [init] = re.findall(rf"^class {class_name}\b.*?def __init__\((.*?)\) -> None", source, re.M | re.S)
    parameters = re.findall(r"^        (\w+):", init, re.M)
    assert parameters
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == set(parameters) - {"kwargs"}


BUILT = ROOT / "build" / "docs"
FETCHED = re.compile(
    r"""(?:<(?:script|img|iframe|source)\b[^>]*?\bsrc=|<link\b(?![^>]*canonical)[^>]*?\bhref=|url\(|@import )["']?"""
    r"""((?:https?:)?//[^\s"'>)]+)"""
)


@pytest.mark.skipif(not BUILT.exists(), reason="run `make docs` first")
def test_the_built_pages_fetch_nothing_from_other_hosts() -> None:
    files = [path for path in BUILT.rglob("*") if path.suffix in {".html", ".css"}]
    assert files
    found = {path.relative_to(BUILT).as_posix(): FETCHED.findall(path.read_text()) for path in files}
    assert {path: addresses for path, addresses in found.items() if addresses} == {}
