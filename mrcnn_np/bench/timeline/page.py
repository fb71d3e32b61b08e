"""The timelines as Markdown: by part, what costs most beyond its floor, and every layer in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ...tables import markdown_table
from ..quiet import MARK, mark
from .record import WIRING

Record = dict[str, Any]

#: what stands for the time between two calls
BETWEEN = "Python and NumPy between the kernels"
#: rows of the table of what costs most
MOST = 15
#: the last columns of every table
RATES = ("GFLOP/s", "GB/s", "share of the floor")

NOTE = """\
One image; times are medians over {repeat} run{s}, after one that is not counted. The floor of a call is the time that
its arithmetic takes at {gflops} GFLOP/s or its bytes at {gbytes} GB/s, whichever is longer: what {threads} here{mark}
reached in the same process. Arithmetic is that of convolutions and fully connected layers by their definition, so
Winograd's can exceed 100 %; so can what finds its arrays in a cache. Bytes are those of all arrays that go in or come
out, once each. What lies between the kernels has no floor. Where a kernel declines, the call is that of the NumPy
function, and counts as one all the same."""

#: below the page, and in the picture
NOT_QUIET = f"{MARK.strip()}: the machine was not quiet, so times say more about another program than about this one."


class Row(NamedTuple):
    """What some slices took together.

    Attributes
    ----------
    part, op, layer, shape : str
        As in ``record.Slice``; empty where the slices differ. The ``op`` of what lies between is ``BETWEEN``.
    seconds, between : float
        All of the time, and that between calls.
    flop, nbytes, floor : float
    """

    part: str
    op: str
    layer: str
    shape: str
    seconds: float
    between: float
    flop: float
    nbytes: float
    floor: float


def write(found: Record) -> str:
    """Return ``timeline.md``: every timeline in full."""
    sections = [
        "\n\n".join((
            title(run, 2), limit(run, found["peak"]),
            f"By part:\n\n{by_part(run, found['peak'])}", _most(run, found["peak"]),
            f"All layers in order:\n\n{_in_order(run, found['peak'])}",
        ))
        for run in found["runs"]
    ]  # fmt: skip
    if disturbed(found):
        sections.append(NOT_QUIET)
    return "\n\n".join(("# Timeline", note(found), *sections)) + "\n"


def section(found: Record) -> str:
    """Return the section of ``bench.md``: parts, and what costs most."""
    texts = (
        (title(run, 3), limit(run, found["peak"]), by_part(run, found["peak"]), _most(run, found["peak"]))
        for run in found["runs"]
    )
    end = "Every layer in order is in `timeline.md`, the picture in `timeline.png`."
    return "\n\n".join(("## Timeline", note(found), *(text for group in texts for text in group), end))


def note(found: Record) -> str:
    """Say how the figures are made."""
    run = found["runs"][0]
    repeat, threads = len(run["seconds"]), f"{run['threads']} thread" + "s" * (run["threads"] != 1)
    peak = {name: _number(value) for name, value in found["peak"].items()}
    return NOTE.format(repeat=repeat, s="s" * (repeat != 1), threads=threads, mark=mark(found), **peak)


def disturbed(found: Record) -> bool:
    """Tell whether the machine was not quiet for a run, or for the peaks."""
    return any(mark(record) for record in (found, *found["runs"]))


def title(run: Record, level: int) -> str:
    """Return the heading of a timeline, and how much of it lies outside of kernels."""
    height, width = run["size"]
    whole = total(run["slices"], {"gflops": 1.0, "gbytes": 1.0})
    return (
        f"{'#' * level} {run['preset']} {run['what']}, {height}x{width}\n\n"
        f"{milliseconds(whole.seconds)} ms{mark(run)}, of which {_percent(whole.between, whole.seconds)} are spent "
        "outside of kernels."
    )


def limit(run: Record, peak: Record) -> str:
    """Say how long the multiplications that Winograd leaves take at the peak: no kernel can do better."""
    seconds = sum(one["least"] for one in run["slices"]) / peak["gflops"] / 1e9
    return (
        "With Winograd's F(4x4, 3x3) for every 3x3 convolution of stride 1, its transforms left out, the arithmetic "
        f"takes {milliseconds(seconds)} ms at that peak."
    )


# --- rows -----------------------------------------------------------------------------------------------------------


def total(slices: Iterable[Record], peak: Record, *, part: str = "", name: str = "") -> Row:
    """Return what slices took together.

    Parameters
    ----------
    slices : iterable of dict
    peak : dict
        ``gflops`` and ``gbytes``, 10^9 operations and bytes a second.
    part, name : str
        What to call it; the name is an operation's.
    """
    row = Row(part, name, "", "", 0.0, 0.0, 0.0, 0.0, 0.0)
    for one in slices:
        row = row._replace(
            seconds=row.seconds + one["seconds"], between=row.between + (0.0 if one["op"] else one["seconds"]),
            flop=row.flop + one["flop"], nbytes=row.nbytes + one["nbytes"], floor=row.floor + floor(one, peak),
        )  # fmt: skip
    return row


def floor(one: Record, peak: Record) -> float:
    """Return the seconds that a call takes at least; 0 for what lies between calls."""
    return max(one["flop"] / peak["gflops"], one["nbytes"] / peak["gbytes"]) / 1e9


def parts(run: Record, peak: Record) -> list[Row]:
    """Return a row for each part, in the order in which they begin; what lies between the parts is the last."""
    groups: dict[str, list[Record]] = {}
    for one in run["slices"]:
        groups.setdefault(one["part"], []).append(one)
    groups[WIRING] = groups.pop(WIRING, [])
    return [total(group, peak, part=part) for part, group in groups.items()]


def calls(run: Record, peak: Record) -> Iterator[Row]:
    """Yield a row for each call in order, and after those of a part, each time it runs, one for the time between."""
    group: list[Record] = []
    for one in [*run["slices"], {"part": ""}]:
        if group and one["part"] != group[0]["part"]:
            yield from (_call(inner, peak) for inner in group if inner["op"])
            between = [inner for inner in group if not inner["op"]]
            yield total(between, peak, part=group[0]["part"], name=BETWEEN)
            group = []
        group.append(one)


def costliest(run: Record, peak: Record) -> list[Row]:
    """Return the rows with the most seconds above their floor; what lies between the calls of a part is one of them."""
    rows = [_call(one, peak) for one in run["slices"] if one["op"]]
    rows += [
        total((one for one in run["slices"] if one["part"] == part.part and not one["op"]), peak, part=part.part,
              name=BETWEEN)
        for part in parts(run, peak)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row.floor - row.seconds)[:MOST]


def _call(one: Record, peak: Record) -> Row:
    return total([one], peak, part=one["part"], name=one["op"])._replace(layer=one["layer"], shape=one["shape"])


# --- tables ---------------------------------------------------------------------------------------------------------


def by_part(run: Record, peak: Record) -> str:
    """Return the table of the parts; its last two rows are what lies between kernels, and the whole."""
    whole = total(run["slices"], peak)
    rows = [(row.part, *_cells(row, whole)) for row in parts(run, peak)]
    between = total((one for one in run["slices"] if not one["op"]), peak)
    rows.append((f"all parts: {BETWEEN}", *_cells(between, whole)))
    rows.append(("**whole**", *_cells(whole, whole)))
    return markdown_table(("part", "ms", "of the whole", "between kernels, ms", *RATES), rows)


def _cells(row: Row, whole: Row) -> tuple[str, ...]:
    return milliseconds(row.seconds), _percent(row.seconds, whole.seconds), milliseconds(row.between), *_rates(row)


def _most(run: Record, peak: Record) -> str:
    rows = [
        (row.part, row.layer or "–", row.op, row.shape or "–", milliseconds(row.seconds),
         milliseconds(row.seconds - row.floor), *_rates(row))
        for row in costliest(run, peak)
    ]  # fmt: skip
    head = ("part", "layer", "operation", "result", "ms", "above its floor, ms", *RATES)
    return "What costs most beyond its floor. Work from its top:\n\n" + markdown_table(head, rows)


def _in_order(run: Record, peak: Record) -> str:
    rows: list[Sequence[str]] = [
        (row.part, row.layer or "–", row.op, row.shape or "–", milliseconds(row.seconds), *_rates(row))
        for row in calls(run, peak)
    ]
    return markdown_table(("part", "layer", "operation", "result", "ms", *RATES), rows)


def _rates(row: Row) -> tuple[str, str, str]:
    """Return 10^9 operations and bytes a second, and the floor over the time."""
    operations, moved = (
        _number(amount / row.seconds / 1e9) if amount and row.seconds else "–" for amount in (row.flop, row.nbytes)
    )
    return operations, moved, _percent(row.floor, row.seconds) if row.floor else "–"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def milliseconds(seconds: float) -> str:
    """Return a time in milliseconds, with more digits if it is short."""
    return f"{1e3 * seconds:.{3 if seconds < 0.01 else 1 if seconds < 1 else 0}f}"


def _percent(part: float, whole: float) -> str:
    share = 100 * part / whole if whole else 0.0
    return f"{share:.0f} %" if share >= 10 else f"{share:.1f} %"
