"""Plots as SVG texts: dots with whiskers, and curves. Colours are the page's, so that they follow its theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from leaderboards.render import escaped

WIDTH = 360  # units, about pixels at a phone's width
LEFT, RIGHT = 8, 352  # ends of an axis
LINE = 36  # height of a label with its dot


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A value with its interval. own: a result of the harness, else a published number."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    own: bool = True


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line through points (x, y)."""

    label: str
    points: Sequence[tuple[float, float]]


def dots(title: str, unit: str, given: Sequence[Dot]) -> str:
    """A dot-and-whisker plot; published numbers are hollow and have no whiskers."""
    ends = [end for dot in given for end in (dot.value, dot.low, dot.high) if end is not None]
    low, high, ticks = axis(min(ends), max(ends))
    bottom = LINE * len(given) + 6
    height = bottom + 40
    parts = [_open(height, f"{title}: values with 95% intervals")]
    parts += [_grid(_at(tick, low, high), bottom, f"{tick:g}") for tick in ticks]
    parts.append(_text((LEFT + RIGHT) / 2, height - 6, f"{title} ({unit})", "axis", "middle"))
    for number, dot in enumerate(given):
        y = LINE * number + 26
        parts.append(_text(LEFT, y - 10, _short(dot.label, 52), "label", "start", dot.label))
        if dot.low is not None and dot.high is not None:
            left, right = _at(dot.low, low, high), _at(dot.high, low, high)
            parts.append(
                f'<path class="whisker" d="M{left:.1f} {y}H{right:.1f}M{left:.1f} {y - 4}v8M{right:.1f} {y - 4}v8"/>'
            )
        interval = "" if dot.low is None else f" ({dot.low:.2f} to {dot.high:.2f})"
        told = escaped(f"{dot.label}: {dot.value:.2f}{interval}")
        kind = "own" if dot.own else "published"
        parts.append(
            f'<circle class="{kind}" cx="{_at(dot.value, low, high):.1f}" cy="{y}" r="5"><title>{told}</title></circle>'
        )
    return "".join([*parts, "</svg>"])


def curves(title: str, x_title: str, given: Sequence[Curve]) -> str:
    """Lines over one another, with a legend below."""
    xs = [x for curve in given for x, _ in curve.points]
    ys = [y for curve in given for _, y in curve.points]
    left, right, x_ticks = axis(min(xs), max(xs))
    low, high, y_ticks = axis(min(ys), max(ys))
    top, bottom, start = 12, 172, 44
    height = bottom + 38 + 18 * len(given)

    def x_at(value: float) -> float:
        return start + (RIGHT - start) * (value - left) / (right - left)

    def y_at(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    parts = [_open(height, f"{title} over {x_title}")]
    for tick in y_ticks:
        y = y_at(tick)
        parts.append(
            f'<path class="grid" d="M{start} {y:.1f}H{RIGHT}"/>{_text(start - 5, y + 4, f"{tick:g}", "tick", "end")}'
        )
    parts += [_text(x_at(tick), bottom + 15, f"{tick:g}", "tick", "middle") for tick in x_ticks]
    parts.append(_text((start + RIGHT) / 2, bottom + 31, x_title, "axis", "middle"))
    for number, curve in enumerate(given):
        line = "L".join(f"{x_at(x):.1f} {y_at(y):.1f}" for x, y in sorted(curve.points))
        parts.append(f'<path class="curve c{number % 6}" d="M{line}"/>')
        y = bottom + 48 + 18 * number
        parts.append(f'<path class="curve c{number % 6}" d="M{start} {y - 4}h20"/>')
        parts.append(_text(start + 26, y, _short(curve.label, 44), "label", "start", curve.label))
    return "".join([*parts, "</svg>"])


def axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """The ends of an axis with room for the values, and three to six round ticks."""
    room = (high - low) * 0.06 or max(abs(low) * 0.05, 0.5)
    low, high = low - room, high + room
    raw = (high - low) / 4
    scale = 10 ** math.floor(math.log10(raw))
    step = next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= raw)
    first = math.ceil(low / step)
    ticks = [round(step * number, 10) for number in range(first, math.floor(high / step) + 1)]
    return low, high, ticks


def _at(value: float, low: float, high: float) -> float:
    return LEFT + (RIGHT - LEFT) * (value - low) / (high - low)


def _open(height: int, name: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escaped(name)}">'


def _grid(x: float, bottom: int, text: str) -> str:
    return f'<path class="grid" d="M{x:.1f} 4V{bottom}"/>{_text(x, bottom + 14, text, "tick", "middle")}'


def _text(x: float, y: float, text: str, kind: str, anchor: str, told: str = "") -> str:
    title = f"<title>{escaped(told)}</title>" if told else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(text)}{title}</text>'


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
