"""The switchboard as text, Markdown, JSON and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import some_of
from ..files import write_json, write_text
from ..objective import LOSSES
from ..tables import markdown_table, text_table
from .plots import save_chart, save_crops
from .switchboard import IMPOSSIBLE, MOVES, NOTHING, TRAINING, Row, Switchboard
from .table import Flip, in_words

MOVES_HEADER = (
    "convention", "from", "to", "who", "kept", "lost", "new", "mean shift px", "max shift px", "max score change",
    "mean mask IoU", "first tensor that changes",
)  # fmt: skip
LONGEST = 34  # characters of a value


def write_report(out: Path, board: Switchboard, class_names: Sequence[str], title: str) -> str:
    """Write conventions.md, conventions.json, conventions.png and crops.png, and return the text for the terminal.

    Parameters
    ----------
    out : Path
        An existing folder.
    board : Switchboard
    class_names : sequence of str
        Entry 0 is background.
    title : str
        What was measured on what.
    """
    write_text(out / "conventions.md", markdown(board, class_names, title))
    write_json(out / "conventions.json", {"title": title, **as_dict(board, class_names)})
    save_chart(out / "conventions.png", board, title)
    save_crops(out / "crops.png", board, class_names, title)
    return text(board, class_names, title)


def text(board: Switchboard, class_names: Sequence[str], title: str) -> str:
    """Return all tables, aligned for a terminal.

    Parameters
    ----------
    board : Switchboard
    class_names : sequence of str
        Entry 0 is background.
    title : str
        What was measured on what.
    """
    return _assembled(board, class_names, title, _aligned, "")


def markdown(board: Switchboard, class_names: Sequence[str], title: str) -> str:
    """Return all tables as Markdown, with the pictures that ``write_report`` puts beside it.

    Parameters
    ----------
    board : Switchboard
    class_names : sequence of str
        Entry 0 is background.
    title : str
        What was measured on what.
    """
    pictures = "![How far boxes, scores and masks move](conventions.png)\n\n![Where boxes moved most](crops.png)\n\n"
    return _assembled(board, class_names, title, _piped, pictures)


def _assembled(board: Switchboard, class_names: Sequence[str], title: str, table: Any, pictures: str) -> str:
    """Put the parts together.

    Parameters
    ----------
    board : Switchboard
    class_names : sequence of str
    title : str
    table : callable
        ``table(header, rows)`` writes one table.
    pictures : str
        What stands behind the first paragraph.
    """
    parts = [f"{title}.\n{_baseline(board, class_names)}\n\n{pictures}".rstrip("\n")]
    rows = [row for row in board.rows if row.effect == MOVES]
    if rows:
        parts.append(table(MOVES_HEADER, [_cells(row) for row in rows]))
        if any(row.kept + row.lost > len(board.baseline) for row in rows):
            parts.append(
                f"A pair is kept if either of its scores, before or after, is {board.score:g} or more, so kept and "
                f"lost may be more than the {len(board.baseline)} above."
            )
        if any(row.converted for row in rows):
            parts.append(
                "Rows marked * change the shapes of parameters, which were rewritten exactly: what moves is rounding."
            )
    rows = [row for row in board.rows if row.effect == TRAINING]
    if rows:
        parts.append(
            "Only training changes. Losses on the same image, divided by those before "
            "(1 without decimals: to the last bit):"
        )
        header = ("convention", "from", "to", "who", *LOSSES, "first tensor that changes")
        parts.append(table(header, [(*_names(row.flip), *_ratios(row), row.first) for row in rows]))
    rows = [row for row in board.rows if row.effect == IMPOSSIBLE]
    if rows:
        parts.append("Not possible with these weights, no exact conversion is known:")
        parts.append(table(("convention", "from", "to", "who", "why"), [(*_names(row.flip), row.note) for row in rows]))
    rows = [row for row in board.rows if row.effect == NOTHING]
    if rows:
        where = "No tensor changes here, with this network on this image"
        if not len(board.sample.gt_boxes):
            where = "Nothing changes in detection; to see what does in training, the image needs annotated objects"
        parts.append(where + ": " + ", ".join(f"{r.flip.field} ({r.flip.old} to {r.flip.new})" for r in rows) + ".")
    if board.sizes:
        values = (f"{name} = {in_words(getattr(board.config, name))}" for name in board.sizes)
        parts.append("Not changed, because they are sizes of this network: " + ", ".join(values) + ".")
    return "\n\n".join(parts) + "\n"


def _baseline(board: Switchboard, class_names: Sequence[str]) -> str:
    found = [f"{class_names[int(k)]} {s:.2f}" for k, s in zip(board.baseline.class_ids, board.baseline.scores)]
    count = f"{len(found)} detection" + ("" if len(found) == 1 else "s")
    return f"Unchanged, it finds {count} with a score of {board.score:g} or more: {some_of(found) or 'nothing'}."


def _names(flip: Flip) -> tuple[str, str, str, str]:
    old, new = (value if len(value) <= LONGEST else value[: LONGEST - 1] + "…" for value in (flip.old, flip.new))
    return flip.field, old, new, flip.whose


def _cells(row: Row) -> tuple[str, ...]:
    name, *values = _names(row.flip)
    counts = (str(row.kept), str(row.lost), str(row.new))
    if row.kept:
        numbers = (_short(row.mean_shift), _short(row.max_shift), _short(row.max_score), f"{row.mean_mask_iou:.4f}")
    else:
        numbers = ("-", "-", "-", "-")
    return (name + "*" * row.converted, *values, *counts, *numbers, row.first or "none but for rounding")


def _short(number: float) -> str:
    return "0" if number == 0 else f"{number:.1e}" if number < 5e-4 else f"{number:.3f}"


def _ratios(row: Row) -> list[str]:
    return [("1" if b == a else f"{b / a:.2f}" if a else "-") for a, b in (row.losses[name] for name in LOSSES)]


def _aligned(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return text_table(header, rows, rule=True)


def _piped(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return markdown_table(header, [(f"`{first}`", *rest) for first, *rest in rows])


def as_dict(board: Switchboard, class_names: Sequence[str]) -> dict[str, Any]:
    """Return everything that was measured, for JSON: shifts in pixels of the image, boxes ``y1, x1, y2, x2``."""
    baseline = board.baseline
    return {
        "config": board.config.to_dict(),
        "image": {"name": board.sample.image_id, "shape": list(board.sample.image.shape[:2])},
        "score": board.score,
        "baseline": [
            {"class": class_names[int(k)], "score": float(s), "box": [float(v) for v in box]}
            for k, s, box in zip(baseline.class_ids, baseline.scores, baseline.boxes)
        ],
        "rows": [_row_as_dict(row) for row in board.rows],
    }


def _row_as_dict(row: Row) -> dict[str, Any]:
    record: dict[str, Any] = {
        "field": row.flip.field,
        "changes": row.flip.changes,
        "from": row.flip.old,
        "to": row.flip.new,
        "who": row.flip.whose,
        "effect": row.effect,
    }
    if row.effect == MOVES:
        names = ["first", "converted", "kept", "lost", "new"]
        if row.kept:  # without a pair there is no distance
            names += ["mean_shift", "max_shift", "max_score", "mean_mask_iou"]
        record |= {name: getattr(row, name) for name in names}
    if row.effect == TRAINING:
        record |= {"first": row.first, "losses": {name: list(pair) for name, pair in row.losses.items()}}
    if row.note:
        record["note"] = row.note
    return record
