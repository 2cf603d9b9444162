"""Draw small line charts as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple

COLORS = ("#0b6e99", "#d9480f", "#2b8a3e", "#862e9c", "#5c5f66", "#c2255c")
WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 40, 44, 56

Points = Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """An axis of a chart.

    :param title: name and unit of the values.
    :param logarithmic: for values that grow by factors. A linear axis starts at 0.
    """

    title: str
    logarithmic: bool = True


def line_chart(title: str, x: Axis, y: Axis, lines: Mapping[str, Points]) -> str:
    """Return a chart as SVG.

    :param lines: name -> points.
    """
    x_scale = make_scale(x, [point[0] for points in lines.values() for point in points], LEFT, WIDTH - RIGHT)
    y_scale = make_scale(
        y, [point[1] for points in lines.values() for point in points], HEIGHT - BOTTOM, TOP + 18 * len(lines) / 2
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 20, title, size=15),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x.title, anchor="middle"),
        text(LEFT, TOP - 6, y.title),
        *(grid_line(x_scale.at(tick), None, label(tick)) for tick in x_scale.ticks),
        *(grid_line(None, y_scale.at(tick), label(tick)) for tick in y_scale.ticks),
    ]
    for number, (name, points) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        positions = [(x_scale.at(a), y_scale.at(b)) for a, b in points]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in positions)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{color}"/>' for a, b in positions]
        a, b = LEFT + 10 + number % 2 * 310, TOP + 14 + number // 2 * 17
        parts.append(f'<rect x="{a}" y="{b - 9}" width="14" height="4" fill="{color}"/>')
        parts.append(text(a + 20, b - 2, name))
    return "\n".join([*parts, "</svg>\n"])


class Scale(NamedTuple):
    """Positions on an axis."""

    at: Callable[[float], float]
    ticks: list[float]


def make_scale(axis: Axis, values: Sequence[float], start: float, end: float) -> Scale:
    """Return the position of values between ``start`` and ``end``, and the ticks."""
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


def grid_line(x: float | None, y: float | None, name: str) -> str:
    if x is not None:
        line = f'x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
        return f'<line {line} stroke="#e9ecef"/>' + text(x, HEIGHT - BOTTOM + 18, name, anchor="middle")
    assert y is not None
    line = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"'
    return f'<line {line} stroke="#e9ecef"/>' + text(LEFT - 8, y + 4, name, anchor="end")


def text(x: float, y: float, content: str, anchor: str = "start", size: int = 12) -> str:
    style = f'text-anchor="{anchor}" font-size="{size}" fill="#212529"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(content)}</text>'


def label(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:g}"
