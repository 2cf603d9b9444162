"""Checks that every state of the page must pass, at every width and in both themes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from axe_playwright_python import sync_playwright as axe_package
from playwright.sync_api import Page

LOOKS = [(width, theme) for width in (1440, 1024, 390) for theme in ("light", "dark")]
_AXE = Path(axe_package.__file__).with_name("axe.min.js").read_text(encoding="utf-8")

# A word is broken badly if its pieces are short. Long names may be broken; browsers break after "-" and "/" anyway.
_BROKEN_WORDS = """
() => {
  const broken = [];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.parentElement.checkVisibility()) continue;
    for (const match of node.data.matchAll(/[^\\s\\-\\/]{2,}/g)) {
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      const lines = new Set([...range.getClientRects()].map(({ top }) => Math.round(top / 4))).size;
      if (lines > 1 && match[0].length / lines < 6) broken.push(match[0]);
    }
  }
  return broken;
}
"""

# Text that cannot be seen: it ends outside the box of an ancestor that cuts it, or outside the page. What scrolls is no
# fault, and neither is text with an ellipsis or text for screen readers only.
_CUT_TEXTS = """
() => {
  const cut = [];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  const isCut = (node, box) => {
    for (let parent = node.parentElement; parent; parent = parent.parentElement) {
      const { display, overflowX, textOverflow } = getComputedStyle(parent);
      const { left, right, width } = parent.getBoundingClientRect();
      if (width <= 1 || overflowX === "auto" || overflowX === "scroll" || textOverflow === "ellipsis") return false;
      const cuts = (overflowX !== "visible" && display !== "inline") || parent === document.documentElement;
      if (cuts && (box.left < left - 1 || box.right > right + 1)) return true;
    }
    return false;
  };
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.data.trim() || !node.parentElement.checkVisibility({ visibilityProperty: true })) continue;
    range.selectNodeContents(node);
    if ([...range.getClientRects()].some((box) => isCut(node, box))) cut.push(node.data.trim());
    const { parentElement: parent } = node;
    const isBox = parent.clientWidth > 1 && getComputedStyle(parent).overflowX === "visible";
    if (isBox && parent.scrollWidth > parent.clientWidth + 1) cut.push(`${node.data.trim()} (wider than its box)`);
  }
  return cut;
}
"""

# Cells whose text has more than one line, in a column that is narrower than 4 characters.
_NARROW_CELLS = """
() => {
  const range = document.createRange();
  const context = document.createElement("canvas").getContext("2d");
  return [...document.querySelectorAll("main :is(td, th, dd)")].filter((cell) => {
    if (!cell.checkVisibility() || !cell.innerText.trim()) return false;
    const { font, paddingLeft, paddingRight } = getComputedStyle(cell);
    range.selectNodeContents(cell);
    const lines = new Set([...range.getClientRects()].map(({ top }) => Math.round(top / 4))).size;
    context.font = font;
    const width = cell.clientWidth - Number.parseFloat(paddingLeft) - Number.parseFloat(paddingRight);
    return lines > 1 && width < 4 * context.measureText("0").width;
  }).map((cell) => cell.innerText);
}
"""


def looks(page: Page, looks: Iterable[tuple[int, str]] = LOOKS) -> Iterator[str]:
    """Give the page each width and theme, one after another, and yield the name of the look."""
    for width, theme in looks:
        page.set_viewport_size({"width": width, "height": 900})
        set_theme(page, theme)
        yield f"{width}-{theme}"


def set_theme(page: Page, theme: str) -> None:
    """Change the theme as Airflow does, which tells its frames by an event."""
    page.evaluate(
        "theme => { localStorage.setItem('theme', theme); dispatchEvent(new StorageEvent('storage')); }", theme
    )


def find_faults(page: Page, look: str) -> list[str]:
    """Return violations of accessibility rules of any level, and text that is cut, broken badly or in a narrow cell."""
    # The theme changes colors only.
    faults = find_violations(page, "color-contrast" if look.endswith("dark") else None)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if overflow:
        faults.append(f"the page scrolls sideways by {overflow} px")
    faults += [f"broken word: {word}" for word in page.evaluate(_BROKEN_WORDS)]
    faults += [f"narrow cell: {text}" for text in page.evaluate(_NARROW_CELLS)]
    faults += [f"cut text: {text}" for text in page.evaluate(_CUT_TEXTS)]
    return faults


def find_violations(page: Page, rule: str | None = None) -> list[str]:
    """Return the violations that axe finds, each with the first elements.

    :param rule: the only rule to check; None: all rules.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(_AXE)
    options = {"resultTypes": ["violations"]} | ({"runOnly": [rule]} if rule else {})
    found = page.evaluate("options => axe.run(options)", options)
    return [_line(violation) for violation in found["violations"]]


def _line(violation: dict[str, Any]) -> str:
    nodes = violation["nodes"]
    shown = "; ".join(f"{' '.join(map(str, node['target']))}: {node['failureSummary']}" for node in nodes[:3])
    return f"axe {violation['id']} ({violation['impact']}), {len(nodes)} elements: {shown}"
