"""README, which PyPI also shows: links and images must be absolute and exist, and the badges must be true."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
REPOSITORY = "https://github.com/burla-cloud/airflow-provider-burla"
RAW = "https://raw.githubusercontent.com/burla-cloud/airflow-provider-burla/main/"
LINKS = sorted(set(re.findall(r"\]\(([^)]+)\)", README)))
IMAGES = sorted(set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)|(?:src|srcset)=\"([^\"]+)\"", README)))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def badge(name: str) -> str:
    """The text on the right of a badge."""
    text = (ROOT / "docs" / "images" / "badges" / f"{name}.svg").read_text()
    [title] = re.findall("<title>.*: (.*)</title>", text)
    assert text.count(title) == 3
    return title


def headings(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("link", [link for link in LINKS if link.startswith(REPOSITORY + "/")])
def test_a_link_into_the_repository_has_a_target(link: str) -> None:
    kind, _, rest = link.removeprefix(REPOSITORY + "/").partition("/main/")
    path, _, anchor = rest.partition("#")
    if kind == "issues":
        return
    target = ROOT / path
    assert target.is_dir() if kind == "tree" else target.is_file()
    assert not anchor or anchor in headings(target)


def test_links_are_absolute_or_anchors() -> None:
    assert {link for link in LINKS if not link.startswith(("https://", "#"))} == set()
    assert {link[1:] for link in LINKS if link.startswith("#")} <= headings(ROOT / "README.md")


@pytest.mark.parametrize("image", [markdown or html for markdown, html in IMAGES])
def test_an_image_is_in_the_repository_and_small(image: str) -> None:
    assert image.startswith(RAW)
    assert (ROOT / image.removeprefix(RAW)).stat().st_size < 200_000


def test_the_badges_are_true() -> None:
    classifiers = [text.rpartition(" :: ")[2] for text in PROJECT["project"]["classifiers"] if ":: Python ::" in text]
    assert badge("python") == " | ".join(classifiers)
    environments = sorted(path.stem.removeprefix("airflow-") for path in (ROOT / "tests/matrix").glob("airflow-*.txt"))
    assert badge("airflow") == " | ".join(environments)
    assert badge("license") == PROJECT["project"]["license"]
    assert badge("types") == "mypy strict"
    assert PROJECT["tool"]["mypy"]["strict"] is True
