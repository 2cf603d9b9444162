"""Small line charts as SVG, both axes logarithmic where the values are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple

COLORS = ("#0b6e99", "#d9480f", "#2b8a3e", "#862e9c", "#5c5f66", "#c2255c")
WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 44, 56

Points = Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """:param title: what it shows, with the unit.
    :param logarithmic: for values that grow by factors; else it starts at 0.
    """

    title: str
    logarithmic: bool = True


def line_chart(title: str, x: Axis, y: Axis, lines: Mapping[str, Points]) -> str:
    """:param lines: name -> points."""
    across = place(x, [point[0] for points in lines.values() for point in points], LEFT, WIDTH - RIGHT)
    down = place(
        y, [point[1] for points in lines.values() for point in points], HEIGHT - BOTTOM, TOP + 18 * len(lines) / 2
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 20, title, size=15),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x.title, anchor="middle"),
        text(LEFT, TOP - 6, y.title),
        *(grid_line(across.at(tick), None, label(tick)) for tick in across.ticks),
        *(grid_line(None, down.at(tick), label(tick)) for tick in down.ticks),
    ]
    for number, (name, points) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        spots = [(across.at(a), down.at(b)) for a, b in points]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in spots)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{color}"/>' for a, b in spots]
        a, b = LEFT + 10 + number % 2 * 310, TOP + 14 + number // 2 * 17
        parts.append(f'<rect x="{a}" y="{b - 9}" width="14" height="4" fill="{color}"/>')
        parts.append(text(a + 20, b - 2, name))
    return "\n".join([*parts, "</svg>\n"])


class Scale(NamedTuple):
    at: Callable[[float], float]
    ticks: list[float]


def place(axis: Axis, values: Sequence[float], start: float, end: float) -> Scale:
    """Where a value is between ``start`` and ``end``, and where to draw ticks."""
    if axis.logarithmic:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        high = max(high, low + 1)
        return Scale(
            lambda value: start + (math.log10(value) - low) / (high - low) * (end - start),
            [10.0**power for power in range(low, high + 1)],
        )
    step = 10 ** math.floor(math.log10(max(values)))
    step = step / 2 if max(values) / step < 3 else step
    top = math.ceil(max(values) / step) * step
    return Scale(lambda value: start + value / top * (end - start), [step * i for i in range(round(top / step) + 1)])


def grid_line(across: float | None, down: float | None, name: str) -> str:
    if across is not None:
        line = f'x1="{across:.1f}" x2="{across:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
        return f'<line {line} stroke="#e9ecef"/>' + text(across, HEIGHT - BOTTOM + 18, name, anchor="middle")
    assert down is not None
    line = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down:.1f}" y2="{down:.1f}"'
    return f'<line {line} stroke="#e9ecef"/>' + text(LEFT - 8, down + 4, name, anchor="end")


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="#212529">{escape(words)}</text>'
    )


def label(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:g}"
