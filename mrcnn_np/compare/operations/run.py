"""How far every operation is from PyTorch's, forward and backward, in float64 and in float32 on both backends.

In float64 the two differ by the order of their sums. In float32 no two correct implementations agree to a fixed number
of digits, so each is held against the float64 result: ours may be off by four times what PyTorch is off (Winograd's
convolution by ten times what our direct one is), plus a few units in the last place where PyTorch is exact. Errors are
the largest difference over the largest magnitude; for Winograd's convolutions in float32, whose errors vary more from
number to number, the root mean square of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kernels

from ...files import prepare, write_json, write_text
from ...tables import markdown_table, text_table
from ..rows import errors, number
from .case import Case
from .layers import convolutions, elementwise, layers
from .regions import boxes, optimiser, regions

#: relative to the largest magnitude, in float64
FORWARD, BACKWARD = 1e-12, 1e-10
FACTOR, WINOGRAD_FACTOR = 4.0, 10.0
FLOOR = 8 * float(np.finfo(np.float32).eps)
BACKENDS = ("numpy", "cpu")  # and "cuda", if that is the active one


@dataclass(frozen=True)
class OpRow:
    """Errors of one operation in one direction, relative to the largest magnitude.

    Attributes
    ----------
    op, case, direction : str
    float64 : float
        Ours against PyTorch's.
    pytorch : float
        PyTorch in float32 against float64.
    ours : dict of str to float
        Our backends in float32 against PyTorch in float64; of decisions the share that differs from PyTorch's.
    bound64 : float
    bounds : dict of str to float
    winograd : bool
        Computed by Winograd's algorithm on the cpu backend; float32 errors are root mean squares.
    """

    op: str
    case: str
    direction: str
    float64: float
    pytorch: float
    ours: dict[str, float]
    bound64: float
    bounds: dict[str, float]
    winograd: bool = False


def cases() -> Iterator[Case]:
    """Yield every case."""
    for group in (convolutions, layers, elementwise, regions, boxes, optimiser):
        yield from group()


def check_all(*, progress: bool = False) -> list[OpRow]:
    """Measure every case."""
    from tqdm import tqdm

    return [row for case in tqdm(list(cases()), unit="case", disable=not progress) for row in check(case)]


def check(case: Case) -> list[OpRow]:
    """Measure one case: a row forward and, if there is one, a row backward."""
    backends = tuple(dict.fromkeys((*BACKENDS, kernels.backend())))
    with kernels.use("numpy"):
        ours64 = _ours(case, np.float64)
    backward = len(ours64) == 2
    theirs64, theirs32 = (_theirs(case, dtype, backward=backward) for dtype in (np.float64, np.float32))
    ours32 = {}
    for name in backends:
        with kernels.use(name):
            ours32[name] = _ours(case, np.float32)
    rows = []
    for i, direction in enumerate(("forward", "backward")[: len(ours64)]):
        double = _worst(case, ours64[i], theirs64[i])
        single = 0.0 if case.decision else _worst(case, theirs32[i], theirs64[i], rms=case.winograd)
        exact = theirs32[i] if case.decision else theirs64[i]
        found = {name: _worst(case, ours32[name][i], exact, rms=case.winograd) for name in backends}
        bounds = dict.fromkeys(backends, 0.0 if case.decision else FACTOR * single + FLOOR)
        if case.winograd:
            bounds |= dict.fromkeys(backends[1:], WINOGRAD_FACTOR * found["numpy"])
        bound64 = 0.0 if case.decision else (FORWARD, BACKWARD)[i]
        rows.append(OpRow(case.op, case.case, direction, double, single, found, bound64, bounds, case.winograd))
    return rows


def within(row: OpRow) -> bool:
    """Tell whether a row keeps its bounds."""
    return row.float64 <= row.bound64 and all(row.ours[name] <= row.bounds[name] for name in row.ours)


def _cast(inputs: Sequence[np.ndarray], dtype: type) -> list[np.ndarray]:
    return [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]


def _gradient_of(y: np.ndarray) -> np.ndarray:
    """Return a made-up gradient that float32 can hold."""
    return np.random.default_rng(99).standard_normal(y.shape).astype(np.float32)


def _ours(case: Case, dtype: type) -> list[list[np.ndarray]]:
    """Return [[y], gradients], without the latter if there is no backward pass."""
    y, backward = case.ours(*_cast(case.inputs, dtype))
    if backward is None:
        return [[y]]
    gradients = backward(_gradient_of(y).astype(dtype))
    return [[y], list(gradients) if isinstance(gradients, tuple) else [gradients]]


def _theirs(case: Case, dtype: type, *, backward: bool) -> list[list[np.ndarray]]:
    """Return [[y], gradients] of PyTorch, without the latter if there is no backward pass.

    Parameters
    ----------
    case : Case
    dtype : type
        float32 or float64.
    backward : bool
        Whether there are gradients.
    """
    tensors: list[Any] = [torch.from_numpy(x.copy()) for x in _cast(case.inputs, dtype)]
    if not backward:
        return [[case.theirs(*tensors).detach().numpy()]]
    y = case.theirs(*(t.requires_grad_() for t in tensors))
    dy = torch.from_numpy(_gradient_of(y.detach().numpy()).astype(dtype))
    return [[y.detach().numpy()], [g.numpy() for g in torch.autograd.grad(y, tensors, dy)]]


def _worst(case: Case, found: list[np.ndarray], expected: list[np.ndarray], *, rms: bool = False) -> float:
    """Return the largest error of several tensors; infinite if a shape differs.

    Parameters
    ----------
    case : Case
    found, expected : list of ndarray
    rms : bool
        Take the root mean square, relative to that of ``expected``, instead of the largest difference.
    """
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape:
            return np.inf
        if case.decision:
            worst = max(worst, float((a != b).mean()))
        elif rms:
            worst = max(worst, float(np.linalg.norm(a.astype(np.float64) - b) / np.linalg.norm(b)))
        else:
            worst = max(worst, errors(a, b)[1])
    return worst


# --- the table ------------------------------------------------------------------------------------------------------


HEAD = ("operation", "case", "direction", "float64", "float32: PyTorch", "numpy", "cpu", "")


def cells(rows: Sequence[OpRow]) -> list[tuple[str, ...]]:
    """Return the cells of the table."""
    return [
        (
            row.op, row.case + (" (rms)" if row.winograd else ""), row.direction,
            number(row.float64), number(row.pytorch),
            *(number(error) for error in row.ours.values()), "ok" if within(row) else "DIFFERS",
        )
        for row in rows
    ]  # fmt: skip


def verdict(rows: Sequence[OpRow]) -> str:
    """Return the largest errors beside their bounds, and which rows exceed theirs."""
    parts = [f"{len({row.op for row in rows})} operations"]
    for direction, bound in (("forward", FORWARD), ("backward", BACKWARD)):
        worst = max((row for row in rows if row.direction == direction), key=lambda row: row.float64, default=None)
        if worst is not None:
            parts.append(f"float64 {direction} {worst.float64:.1e} ({worst.op}; bound {bound:.0e})")
    for name in rows[0].ours if rows else ():
        times = [(row.ours[name] / row.pytorch, row.op) for row in rows if row.pytorch > 1e-8 and not row.winograd]
        if times:
            parts.append(f"float32 {name} at most {max(times)[0]:.1f} times PyTorch's error ({max(times)[1]})")
    times = [(row.ours["cpu"] / row.ours["numpy"], row.case) for row in rows if row.winograd]
    if times:
        parts.append(f"Winograd at most {max(times)[0]:.1f} times the direct convolution's ({max(times)[1]})")
    far = [f"{row.op} {row.case} {row.direction}" for row in rows if not within(row)]
    return "; ".join(parts) + ("; all within their bounds" if not far else f"; NOT within: {', '.join(far)}")


def text(rows: Sequence[OpRow]) -> str:
    """Return the table for a terminal, and the verdict."""
    return f"{text_table(HEAD, cells(rows))}\n\n{verdict(rows)}"


def markdown(rows: Sequence[OpRow], facts: str) -> str:
    """Return the table as a document."""
    lines = markdown_table(HEAD, cells(rows))
    return f"# Every operation beside PyTorch's\n\n{facts}\n\n**{verdict(rows)}**\n\n{lines}\n"


def write(rows: Sequence[OpRow], facts: str, folder: Path) -> list[Path]:
    """Write ``ops.md``, and its facts and verdict as ``ops.json``; return their paths.

    Parameters
    ----------
    rows : sequence of OpRow
    facts : str
        What ran, for the document.
    folder : Path
    """
    prepare(folder)
    write_text(folder / "ops.md", markdown(rows, facts))
    outcome = {"title": "Every operation beside PyTorch's", "facts": {"versions": facts}, "verdict": verdict(rows)}
    write_json(folder / "ops.json", outcome)
    return [folder / "ops.md", folder / "ops.json"]
