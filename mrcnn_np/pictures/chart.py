"""Curves over the steps of a training as SVG: a few kilobytes of text inside a page, light or dark as the page is."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

WIDTH, HEIGHT = 640, 220
#: of the drawing: room for numbers on the left and below
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 8, 8, 24
#: points of a curve at most; more are summed up in means
MOST = 300
COLOURS = 7
#: classes k0 ... are the curves' colours: Okabe and Ito's, the lighter ones on dark ground
STYLE = """
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 0 1.5rem; }
.charts h2 { font-size: 15px; margin: 0; } figure { margin: 1rem 0; } figcaption { font-size: 13px; }
svg { width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: currentColor; } .grid { stroke: currentColor; opacity: .15; }
.curve { fill: none; stroke-width: 1.6; stroke: currentColor; } circle { fill: currentColor; }
.key { display: inline-block; width: 1.2em; height: .3em; vertical-align: middle; background: currentColor; }
.k1 { color: #d55e00; } .k2 { color: #0072b2; } .k3 { color: #009e73; } .k4 { color: #cc79a7; } .k5 { color: #b07800; }
.k6 { color: #56b4e9; }
@media (prefers-color-scheme: dark) { .k1 { color: #ff8c42; } .k2 { color: #4da3ff; } .k5 { color: #e69f00; } }
"""


def chart(title: str, steps: Sequence[float] | np.ndarray, curves: Mapping[str, Sequence[float] | np.ndarray]) -> str:
    """Return a figure: the curves, and below them in words where each began, where it is and its range.

    Parameters
    ----------
    title : str
    steps : sequence of N numbers
        Ascending.
    curves : mapping of str to sequence of N numbers
        By name; what is no finite number is missing. Curves without any number are left out.

    Returns
    -------
    str
        HTML; empty if there is no curve. All texts are escaped.

    Notes
    -----
    The scale is logarithmic where all numbers are positive and the largest is more than ten times the least.
    """
    x = np.asarray(steps, np.float64)
    known = {name: np.asarray(values, np.float64) for name, values in curves.items()}
    known = {name: values for name, values in known.items() if np.isfinite(values).any()}
    if not known:
        return ""
    everything = np.concatenate([values[np.isfinite(values)] for values in known.values()])
    low, high = float(everything.min()), float(everything.max())
    logarithmic = low > 0 and high > 10 * low
    ticks = _decades(low, high) if logarithmic else _round_numbers(min(low, 0.0), max(high, 1e-12))
    low, high = (low, high) if logarithmic else (min(low, 0.0), max(high, ticks[-1]))
    begin, end = float(x[0]), max(float(x[-1]), float(x[0]) + 1)

    def across(step: float) -> float:
        return _LEFT + (step - begin) / (end - begin) * (WIDTH - _LEFT - _RIGHT)

    def down(value: float) -> float:
        share = math.log(value / low) / math.log(high / low) if logarithmic else (value - low) / (high - low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    parts = [_grid(ticks, down), _below(begin, end)]
    words = []
    for i, (name, values) in enumerate(known.items()):
        colour = f"k{i % COLOURS}"
        points = [(across(a), down(b)) for a, b in zip(*_thinned(x, values))]
        parts.append(_curve(points, colour))
        said = html.escape(_in_words(name, x, values))
        words.append(f'<span class="key {colour}"></span> {said}')
    name = html.escape(title)
    return (
        f"<figure><h2>{name}</h2>"
        f'<svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{name}; the numbers stand below">'
        f"{''.join(parts)}</svg><figcaption>{'<br>'.join(words)}</figcaption></figure>"
    )


def _grid(ticks: Sequence[float], down: Callable[[float], float]) -> str:
    lines = []
    for tick in ticks:
        y = f"{down(tick):.1f}"
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{y}" text-anchor="end" dominant-baseline="middle">{tick:g}</text>')
    return "".join(lines)


def _below(begin: float, end: float) -> str:
    y = HEIGHT - 7
    return (
        f'<text x="{_LEFT}" y="{y}">step {begin:g}</text>'
        f'<text x="{WIDTH - _RIGHT}" y="{y}" text-anchor="end">{end:g}</text>'
    )


def _curve(points: list[tuple[float, float]], colour: str) -> str:
    """Return a line, with a dot at each point where there are few: a single one would not show."""
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    few = points if len(points) <= MOST // 10 else []
    dots = "".join(f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>' for x, y in few)
    return f'<polyline class="curve {colour}" points="{line}"/>{dots}'


def _thinned(x: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a curve, or the means of so many neighbours that at most ``MOST`` are left."""
    finite = np.isfinite(values)
    x, values = x[finite], values[finite]
    if len(x) <= MOST:
        return x, values
    starts = np.linspace(0, len(x), MOST, endpoint=False).astype(int)
    counts = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / counts, np.add.reduceat(values, starts) / counts


def _in_words(name: str, x: np.ndarray, values: np.ndarray) -> str:
    finite = np.flatnonzero(np.isfinite(values))
    first, last = finite[0], finite[-1]
    least, most = finite[values[finite].argmin()], finite[values[finite].argmax()]
    return (
        f"{name}: {values[last]:.4g} at step {x[last]:g}; {values[first]:.4g} at step {x[first]:g}, "
        f"least {values[least]:.4g} at {x[least]:g}, most {values[most]:.4g} at {x[most]:g}"
    )


def _decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten within a range; the powers alone where those are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 4 else (1,)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    return [tick for tick in ticks[:: 1 if len(ticks) < 40 else len(ticks) // 20] if low <= tick <= high]


def _round_numbers(low: float, high: float) -> list[float]:
    """Return about four multiples of 1, 2 or 5 times a power of ten, from at or below ``high`` downwards."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
