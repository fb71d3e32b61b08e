"""The ways to convolve, and what each is worth: the tables from which ``conv`` and ``fused`` choose.

A table lists kernels from the most special to the most general; the first that suits a convolution's sizes computes it.
Where none does, the kernel declines and NumPy takes over. Special kernels cost a reader time, so each says its price:
the shapes it is for, what it gains there over the next row that suits, and what is lost without its file.

Without a file, remove its rows here; results stay the same but for rounding, as ``tests/kernels/test_table.py`` shows
for each row. Some files lend parts to others: ``winograd`` and ``winograd_tiles`` to all others of that name,
``winograd`` its construction to ``stem``, too; ``winograd_weights`` and ``grouped_slide`` (the loops of ``grouped``) to
``grouped_winograd``; ``direct`` (with its loops ``direct_loops`` and ``direct_weights``) to ``transposed`` and, for
packing, to the fully connected layer.

A gain is the time of the next row that suits over the time of the row itself, on its example and one thread, as
``python -m mrcnn_np.bench.convolution_rows`` measures it; these are from an AMD EPYC (Zen 5) with vectors of AVX-512.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from . import (
    direct,
    few_channels,
    grouped,
    grouped_winograd,
    stem,
    transposed,
    winograd,
    winograd_strided,
    winograd_weights,
)
from .geometry import Geometry, measure

Compute = Callable[..., np.ndarray]


class Row(NamedTuple):
    """A kernel and its price.

    ``file`` below this folder; the shapes it is for, ``when`` in words and ``suits`` in code; ``compute``; ``gain``
    over the next row that suits, on the ``example`` (shapes of maps and weights, stride, padding, groups); what happens
    ``without`` it.
    """

    file: str
    when: str
    suits: Callable[[Geometry], bool]
    compute: Compute
    gain: str
    without: str
    example: tuple[tuple[int, ...], tuple[int, ...], int, int, int]


def choose(table: tuple[Row, ...], sizes: Geometry) -> Compute | None:
    """Return what computes a convolution of these sizes: the first row that suits; None if none does."""
    for row in table:
        if row.suits(sizes):
            return row.compute
    return None


def everything(sizes: Geometry) -> bool:
    """Tell whether there are no groups; any kernel, stride and padding will do."""
    return sizes.groups == 1


_FPN = ((1, 100, 136, 256), (3, 3, 256, 256), 1, 1, 1)
_IMAGE = ((1, 400, 544, 3), (7, 7, 3, 64), 2, 3, 1)
_RESNEXT = ((1, 100, 136, 128), (3, 3, 4, 128), 1, 1, 32)
_WIDE_GROUPS = ((1, 25, 34, 1024), (3, 3, 32, 1024), 1, 1, 32)
_STRIDED = ((1, 100, 136, 128), (3, 3, 128, 128), 2, 1, 1)
_WIDER = ((1, 100, 136, 128), (1, 1, 128, 512), 1, 0, 1)
_NARROW = ((1, 200, 272, 64), (1, 1, 64, 256), 1, 0, 1)
_HEAVY = ((1, 25, 34, 512), (1, 1, 512, 2048), 1, 0, 1)
_DECONVOLUTION = ((50, 28, 28, 256), (2, 2, 256, 256), 2, 0, 1)

#: compute(x, w, sizes, scale=, shift=, residual=, floor=) -> y
FORWARD = (
    Row(
        "grouped_winograd", "3x3, stride 1, padding 1, groups of 32 channels or a multiple", grouped_winograd.suits,
        grouped_winograd.convolve, "1.5", "grouped takes over", _WIDE_GROUPS,
    ),
    Row("grouped", "groups", grouped.suits, grouped.convolve, "27", "NumPy, group by group", _RESNEXT),
    Row(
        "winograd", "3x3, stride 1, padding 1, whole vectors of channels, 32 inputs, 256 pixels", winograd.suits,
        winograd.convolve, "3.1", "direct takes over: 36 of 144 multiplications become 144", _FPN,
    ),
    Row(
        "stem", "7 taps across, stride 2, at most 4 input channels: the first layer of a ResNet", stem.suits,
        stem.convolve, "1.3", "direct takes over", _IMAGE,
    ),
    Row(
        "winograd_strided", "3x3, stride 2, whole vectors of channels, 32 inputs, 512 tiles of 2x2",
        winograd_strided.suits, winograd_strided.convolve, "1.2", "direct takes over", _STRIDED,
    ),
    Row("direct", "everything without groups", everything, direct.convolve, "1.2", "NumPy", _WIDER),
)  # fmt: skip

#: compute(dy, w, sizes, residual=) -> dx
INPUT_GRADIENT = (
    Row(
        "grouped_winograd", "as forward", grouped_winograd.suits, grouped_winograd.input_gradient, "1.3",
        "grouped takes over", _WIDE_GROUPS,
    ),
    Row("grouped", "groups", grouped.suits, grouped.scatter, "8", "NumPy, group by group", _RESNEXT),
    Row(
        "winograd", "as forward, with 32 outputs", winograd.suits_turned, winograd.input_gradient, "3.1",
        "direct takes over", _FPN,
    ),
    Row(
        "few_channels", "few input channels: the phases of the input fit a panel", few_channels.suits,
        few_channels.scatter, "5.3", "direct takes over, mostly multiplying by the zeros that fill its panels", _IMAGE,
    ),
    Row(
        "direct", "1x1, no padding, 2^19 weights", direct.is_heavy_pointwise, direct.pointwise_scatter, "1.1",
        "the next row of the same file takes over", _HEAVY,
    ),
    Row("direct", "everything without groups", everything, direct.scatter, "1.2", "NumPy", _STRIDED),
)  # fmt: skip

#: compute(x, dy, sizes) -> dw
WEIGHT_GRADIENT = (
    Row(
        "grouped_winograd", "as forward", grouped_winograd.suits, grouped_winograd.weight_gradient, "4",
        "grouped takes over", _WIDE_GROUPS,
    ),
    Row("grouped", "groups", grouped.suits, grouped.weight_gradient, "17", "NumPy, group by group", _RESNEXT),
    Row(
        "winograd_weights", "as forward", winograd.suits, winograd_weights.weight_gradient, "2.6", "direct takes over",
        _FPN,
    ),
    Row(
        "direct", "1x1, no padding, 2^26 multiplications", direct.is_large_pointwise, direct.pointwise_weight_gradient,
        "1.2; on two threads 1.3", "the next row of the same file takes over", _NARROW,
    ),
    Row("direct", "everything without groups", everything, direct.weight_gradient, "1.2", "NumPy", _STRIDED),
)  # fmt: skip

#: compute(x, w, sizes, shift=, floor=) -> y, where sizes and w are those of the convolution that is transposed
TRANSPOSED = (
    Row(
        "transposed", "as many taps for each phase, whole panels of outputs: 2x2 with stride 2", transposed.suits,
        transposed.scatter, "1.0 to 1.1", "direct takes over, phase by phase", _DECONVOLUTION,
    ),
    Row("direct", "everything", everything, direct.scatter, "1.4", "NumPy", _DECONVOLUTION),
)  # fmt: skip

TABLES = {"forward": FORWARD, "dx": INPUT_GRADIENT, "dw": WEIGHT_GRADIENT, "transposed": TRANSPOSED}
__all__ = ["FORWARD", "INPUT_GRADIENT", "TABLES", "TRANSPOSED", "WEIGHT_GRADIENT", "Geometry", "choose", "measure"]
