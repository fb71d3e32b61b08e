"""The compiled convolutions in groups against their NumPy bodies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import INTERPRETED, check_pair, draw, error, to_float64

from kernels.cpu import conv as fast
from kernels.cpu import fused as fast_fused
from kernels.cpu.convolution import grouped, grouped_winograd
from kernels.cpu.convolution.geometry import measure
from kernels.cpu.convolution.grouped import Groups
from kernels.cpu.machine.simd import VL
from mrcnn_np.ops.conv import conv2d, conv2d_backward
from mrcnn_np.ops.fused import conv2d_fused

CONV = (fast.conv2d, fast.conv2d_backward)
# Slack: one running sum over taps and channels; by Winograd where the groups are whole vectors: 2e-6 measured
SLACK = 1e-5


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_groups(seed):
    rng = np.random.default_rng(seed)
    counts, taps, longest, most = ([2, 3], 3, 8, VL + 1) if INTERPRETED else ([2, 3, 4, 8, 32], 5, 29, 2 * VL + 1)
    groups, kernel, stride = int(rng.choice(counts)), rng.integers(1, taps + 1, 2), int(rng.integers(1, 4))
    pads = rng.integers(0, 3, (2, 2))
    size = np.maximum(rng.integers(1, longest + 1, 2), kernel - pads.sum(axis=1))
    per_in, per_out = rng.integers(1, most + 1, 2)
    args = draw(rng, 2, *size, groups * per_in), draw(rng, *kernel, per_in, groups * per_out)
    options = {"stride": stride, "padding": tuple(map(tuple, pads.tolist())), "groups": groups}
    check_pair(conv2d, conv2d_backward, CONV, args, options, rng, slack=SLACK)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("per", [4, 8, 16, 32] if INTERPRETED else [4, 8, 16, 32, 64])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (7, 11), (14, 14), (9, 34)])
def test_groups_of_resnext(per, stride, size):
    """All groups of ResNeXt 32x4d and 32x8d, on maps narrower and wider than a tile."""
    rng = np.random.default_rng(per)
    groups = 8 if per < 16 else 3
    args = draw(rng, 2, *size, groups * per), draw(rng, 3, 3, per, groups * per)
    check_pair(
        conv2d, conv2d_backward, CONV, args, {"stride": stride, "padding": 1, "groups": groups}, rng, slack=SLACK
    )


@pytest.mark.parametrize("per", [(1, 1), (2, 1)] if INTERPRETED else [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_winograd_of_groups(per):
    """Groups of one and of several panels, with more inputs than outputs and with fewer."""
    rng = np.random.default_rng(0)
    per_in, per_out = (grouped_winograd.LEAST * n for n in per)
    args = draw(rng, 2, 13, 18, 3 * per_in), draw(rng, 3, 3, per_in, 3 * per_out)
    assert grouped_winograd.suits(measure(args[0].shape, args[1].shape, padding=1, groups=3))
    check_pair(conv2d, conv2d_backward, CONV, args, {"padding": 1, "groups": 3}, rng, slack=SLACK)


@pytest.mark.parametrize("per", [3, 4, 16, grouped_winograd.LEAST])
@pytest.mark.parametrize("residual", [False, True])
def test_finished_in_the_last_store(per, residual):
    rng = np.random.default_rng(1)
    x, w, b = draw(rng, 2, 16, 17, 8 * per), draw(rng, 3, 3, per, 8 * per), draw(rng, 8 * per)
    norm = (*(np.abs(draw(rng, 8 * per)) + np.float32(0.5) for _ in range(4)), 1e-3)
    options = {"padding": 1, "groups": 8, "activate": True, "norm": norm}
    if residual:
        options["residual"] = draw(rng, 2, 16, 17, 8 * per)
    exact, _ = conv2d_fused.reference(*to_float64((x, w, b)), **{k: to_float64(v) for k, v in options.items()})
    y, _ = fast_fused.conv2d_fused(x, w, b, **options)
    assert error(y, exact) <= SLACK


def test_groups_are_filled_up_to_whole_vectors():
    for per_in, per_out in np.ndindex(40, 40):
        filled = Groups(3, per_in + 1, per_out + 1).filled()
        assert filled.per_in > per_in
        assert filled.per_out > per_out
        assert filled.number * filled.per_in % VL == 0 == filled.number * filled.per_out % VL
        assert filled.filled() == filled
        assert filled.mode() in (0, *grouped.LANES)


def test_groups_that_do_not_divide_the_channels_are_refused():
    rng = np.random.default_rng(2)
    x, w = draw(rng, 1, 4, 4, 8), draw(rng, 1, 1, 4, 5)
    assert fast.conv2d(x, w, groups=2) is NotImplemented
    with pytest.raises(ValueError, match="groups"):
        conv2d(x, w, groups=2)
