"""``bench.png``: the ratios as bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..pictures.canvas import FONTS, LINE_PALETTE, add_axes, add_text, new_figure, save, style_axes

ROW = 17  # pixels
GREY = "#9E9E9E"


def draw(path: Path, results: dict[str, Any]) -> Path | None:
    """Save the chart; None if there are no ratios, because no framework took part.

    Logarithmic, so that twice as fast and half as fast are equally long; a tick marks each target.
    """
    bars = list(_bars(results))
    if not bars:
        return None
    left, top, width = 330, 46, 560
    height = ROW * len(bars)
    figure = new_figure(left + width + 60, top + height + 50)
    ax = add_axes(figure, left, top, width, height)
    style_axes(ax)
    ax.set_xscale("log", base=2)
    least = min(0.5, *(bar[1] for bar in bars)) / 1.4
    most = max(4.0, *(bar[1] for bar in bars)) * 1.25
    for row, (_, ratio, target, quiet) in enumerate(bars):
        colour = GREY if quiet is False else LINE_PALETTE[0] if ratio >= (target or 1) else LINE_PALETTE[1]
        ax.barh(row, ratio - 1, left=1, height=0.7, color=colour)
        if target:
            ax.plot([target, target], [row - 0.45, row + 0.45], color="black", linewidth=1.2)
        ax.text(
            ratio * (1.03 if ratio >= 1 else 0.97), row, f"{ratio:.2f}", va="center", fontsize=7, family=FONTS,
            ha="left" if ratio >= 1 else "right",
        )  # fmt: skip
    ax.axvline(1, color=GREY, linewidth=1)
    ax.set(xlim=(least, most), ylim=(len(bars) - 0.4, -0.6))
    ax.set_yticks(range(len(bars)), [bar[0] for bar in bars], family=FONTS, fontsize=7)
    ticks = [t for t in (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64) if least <= t <= most]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.set_xlabel("PyTorch's time / ours (cpu backend)", fontsize=8)
    full = (top + height + 50) / 100
    add_text(
        figure, 0.01, 1 - 0.16 / full,
        "How much faster than PyTorch: blue reaches its target (black tick; else 1), orange does not; grey: not quiet",
        fontsize=10, va="center",
    )  # fmt: skip
    add_text(
        figure, 0.01, 1 - 0.34 / full, f"{results['machine']['processor']}, {results['machine']['threads']} threads",
        fontsize=8, va="center", color="#555555",
    )  # fmt: skip
    return save(figure, path)


def _bars(results: dict[str, Any]) -> Any:
    """Yield (name, ratio, target or None, whether the machine was quiet): networks first."""
    for row in results.get("network", {"rows": []})["rows"]:
        if row["ratio"] is not None:
            yield f"network, {row['what']} {row['size'][0]}x{row['size'][1]}", row["ratio"], row["target"], row["quiet"]
    ops = results.get("ops", {"rows": [], "means": []})
    for mean in ops["means"]:
        yield f"{mean['group']} {mean['direction']}, geometric mean", mean["ratio"], mean["target"], mean["quiet"]
    for row in ops["rows"]:
        if row["ratio"] is not None:
            yield f"{row['group']} {row['case']} {row['direction']}", row["ratio"], row["target"], row["quiet"]
