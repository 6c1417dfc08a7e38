"""Draw lines into an SVG file, both axes logarithmic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tools.progress import REPOSITORY

FOLDER = REPOSITORY / "docs" / "images" / "performance"
_WIDTH, _HEIGHT, _LEFT, _BELOW, _ABOVE, _RIGHT = 720, 400, 70, 50, 40, 230
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")


@dataclass(frozen=True)
class Line:
    """A name, and points by their x."""

    name: str
    points: Sequence[tuple[float, float]]


def draw(name: str, title: str, axes: tuple[str, str], lines: Sequence[Line]) -> None:
    """Write the plot into `docs/images/performance/`."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / name).write_text(plot(title, axes, lines))


def plot(title: str, axes: tuple[str, str], lines: Sequence[Line]) -> str:
    """The SVG. All values must be above zero."""
    xs = _decades([x for line in lines for x, _ in line.points])
    ys = _decades([y for line in lines for _, y in line.points])
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BELOW

    def across(x: float) -> float:
        return _LEFT + (math.log10(x) - xs[0]) / (xs[-1] - xs[0]) * (right - _LEFT)

    def down(y: float) -> float:
        return bottom - (math.log10(y) - ys[0]) / (ys[-1] - ys[0]) * (bottom - _ABOVE)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-size="12">',
        "<style>text { font-family: sans-serif }</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}</text>',
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(axes[0])}</text>',
        f'<text x="{_LEFT - 60}" y="{_ABOVE - 4}">{escape(axes[1])}</text>',
    ]
    for power in xs:
        x = across(10.0**power)
        parts.append(f'<path d="M{x:.1f} {_ABOVE}V{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{10.0**power:,g}</text>')
    for power in ys:
        y = down(10.0**power)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:,g}</text>')
    for number, line in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in line.points)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = _ABOVE + 16 * (number + 1)
        parts.append(f'<text x="{right + 12}" y="{y}" fill="{colour}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _decades(values: Sequence[float]) -> list[int]:
    """Powers of ten around `values`: two at least."""
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return list(range(first, max(last, first + 1) + 1))
