"""What the documentation quotes is what the code says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

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
