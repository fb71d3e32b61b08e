"""The compiled convolutions against their NumPy bodies, on random shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import check_pair, distance, draw, error, scattered, to_float64

from kernels.cpu import conv as fast
from kernels.cpu import fused as fast_fused
from kernels.cpu.convolution import direct, few_channels, winograd, winograd_tiles, winograd_weights
from kernels.cpu.convolution.geometry import measure
from kernels.cpu.machine import memory
from kernels.cpu.machine.simd import VL
from mrcnn_np.ops.conv import conv2d, conv2d_backward, conv2d_transpose, conv2d_transpose_backward
from mrcnn_np.ops.fused import conv2d_fused, conv2d_fused_backward

# Slack: a result is one running sum over taps and channels, up to 3,430 terms, where BLAS adds blocks; measured: 3e-6
CONV = (fast.conv2d, fast.conv2d_backward)
TRANSPOSE = (fast.conv2d_transpose, fast.conv2d_transpose_backward)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_convolution(seed):
    rng = np.random.default_rng(seed)
    kernel, stride, pads = rng.integers(1, 8, 2), int(rng.integers(1, 4)), rng.integers(0, 4, (2, 2))
    size = np.maximum(rng.integers(1, 20, 2), kernel - pads.sum(axis=1))
    c_in, c_out = rng.integers(1, 71, 2)
    x, w = draw(rng, int(rng.integers(1, 4)), *size, c_in), draw(rng, *kernel, c_in, c_out)
    args = (x, w) if rng.random() < 0.5 else (x, w, draw(rng, c_out))
    options = {"stride": stride, "padding": tuple(map(tuple, pads.tolist()))}
    check_pair(conv2d, conv2d_backward, CONV, args, options, rng, slack=1e-5)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_transposed_convolution(seed):
    rng = np.random.default_rng(seed)
    kernel, stride, size = rng.integers(1, 5, 2), int(rng.integers(1, 4)), rng.integers(1, 9, 2)
    c_in, c_out = rng.integers(1, 71, 2)
    x, w = draw(rng, int(rng.integers(1, 4)), *size, c_in), draw(rng, *kernel, c_in, c_out)
    args = (x, w) if rng.random() < 0.5 else (x, w, draw(rng, c_out))
    check_pair(conv2d_transpose, conv2d_transpose_backward, TRANSPOSE, args, {"stride": stride}, rng, slack=1e-5)


# Channels that fill panels or not, phases of equally many taps or not, outputs that nothing reaches
@pytest.mark.parametrize(
    "case", [(2, 2, 40, 64, 2), (4, 2, 7, 32, 2), (3, 6, 5, 96, 3), (2, 2, 32, 91, 2), (1, 2, 5, 64, 3)]
)
@pytest.mark.parametrize("activate", [False, True])
def test_phases_of_a_transposed_convolution(case, activate):
    kh, kw, c_in, c_out, stride = case
    rng = np.random.default_rng(7)
    x, w, b = draw(rng, 3, 5, 14, c_in), draw(rng, kh, kw, c_in, c_out), draw(rng, c_out)
    y, cache = fast.conv2d_transpose(x, w, b, stride=stride, activate=activate)
    exact, exact_cache = conv2d_transpose.reference(*to_float64((x, w, b)), stride=stride, activate=activate)
    assert error(y, exact) <= 2e-6  # measured: 4e-7
    assert not activate or (y.min() == 0 and y.max() > 0)

    dy = draw(rng, *y.shape)
    if activate:  # the same side of the kink on both, whatever the rounding
        exact_cache = exact_cache._replace(y=to_float64(y))
    for ours, exactly in zip(
        fast.conv2d_transpose_backward(dy, cache),
        conv2d_transpose_backward.reference(to_float64(dy), exact_cache),
    ):
        assert error(ours, exactly) <= 5e-6  # measured: 1e-6


@pytest.mark.parametrize("channels", [(64, 5), (5, 64), (32, 64), (64, 32), (40, 70)])
def test_pointwise_convolution(channels):
    """Its weight gradient is computed from either side, whichever map has more channels."""
    c_in, c_out = channels
    rng = np.random.default_rng(8)
    args = draw(rng, 2, 13, 11, c_in), draw(rng, 1, 1, c_in, c_out)
    check_pair(conv2d, conv2d_backward, CONV, args, {}, rng, slack=1e-5)


@pytest.mark.parametrize("shape", [(1, 16, 16, 32, 32), (2, 17, 23, 48, 32), (1, 30, 41, 64, 96), (3, 14, 14, 32, 64)])
@pytest.mark.parametrize("few_tiles", [0, winograd.FEW_TILES])
def test_winograd_is_off_by_at_most_ten_times_as_much(shape, few_tiles, monkeypatch):
    # Maps of few tiles take another way than large ones: go both ways with small ones
    for module in (winograd, winograd_weights):
        monkeypatch.setattr(module, "FEW_TILES", few_tiles)
    *maps, c_in, c_out = shape
    rng = np.random.default_rng(0)
    args = draw(rng, *maps, c_in), draw(rng, 3, 3, c_in, c_out) / np.float32(3 * c_in**0.5), draw(rng, c_out)
    assert winograd.suits(measure(args[0].shape, args[1].shape, padding=1))
    check_pair(
        conv2d, conv2d_backward, CONV, args, {"padding": 1}, rng, factor=10, slack=0, error=distance
    )  # measured: 8


@pytest.mark.parametrize("maps", [(7, 6, 7), (5, 14, 14), (11, 9, 3), (4, 13, 8), (3, 8, 13), (2, 25, 18)])
def test_winograd_on_small_maps_that_share_a_sheet(maps):
    """Gaps between maps, sheets that are not full, tiles of several maps: forward and both gradients."""
    sheets, alone = (
        winograd_tiles.lay_out(*maps),
        maps[0] * -(-maps[1] // winograd_tiles.N) * -(-maps[2] // winograd_tiles.N),
    )
    assert sheets.tiles < alone and sheets.down * sheets.across > 1
    rng = np.random.default_rng(5)
    x, w = draw(rng, *maps, 32), draw(rng, 3, 3, 32, 32)
    exact, cache = conv2d.reference(to_float64(x), to_float64(w), padding=1)
    dy = draw(rng, *exact.shape)
    dx, dw, _ = conv2d_backward.reference(to_float64(dy), cache)
    sizes = measure(x.shape, w.shape, padding=1)
    assert error(winograd.convolve(x, w, sizes), exact) <= 1e-5  # measured: 3e-6
    assert error(winograd.input_gradient(dy, w, sizes), dx) <= 1e-5
    assert error(winograd_weights.weight_gradient(x, dy, sizes), dw) <= 1e-5


@pytest.mark.parametrize(
    "wide, block", [(winograd_weights.WIDE, winograd_weights.BLOCK), (winograd_weights.WIDE, 8), (1, 48)]
)
def test_the_sums_of_a_winograd_gradient_do_not_depend_on_the_threads(wide, block, monkeypatch):
    """Parts of the tiles, each by one thread or by all together; rows of the result, or again all together."""
    ways, (maps, c_in, c_out) = [], ((2, 40, 44), 144, 80)  # 220 tiles: four large blocks in two chunks
    for name in ("_correlate_apart", "_correlate_together", "_gradient_by_rows"):
        way = getattr(winograd_weights, name)
        monkeypatch.setattr(
            winograd_weights, name, lambda *args, way=way, name=name: (ways.append(name), way(*args))[1]
        )
    monkeypatch.setattr(winograd_weights, "FEW_TILES", 0)
    monkeypatch.setattr(winograd_weights, "WIDE", wide)
    monkeypatch.setattr(winograd_weights, "BLOCK", block)  # 8: several chunks to a part
    rng, found = np.random.default_rng(6), []
    x, dy = draw(rng, *maps, c_in), draw(rng, *maps, c_out)
    sizes = measure(x.shape, (3, 3, c_in, c_out), padding=1)
    for threads in (1, 2, 3, 4, 5):
        monkeypatch.setattr(winograd_weights, "shares", lambda threads=threads: threads)
        found.append(winograd_weights.weight_gradient(x, dy, sizes))
    assert all(other.tobytes() == found[0].tobytes() for other in found)
    few = min(winograd_weights.FEW_THREADS, c_in // VL // 2) if wide == 1 else 0
    parts = 0 if wide == 1 else 2
    assert ways == [
        "_gradient_by_rows" if 2 <= threads <= few else "_correlate_" + ("apart" if threads <= parts else "together")
        for threads in (1, 2, 3, 4, 5)
    ]
    _, cache = conv2d.reference(to_float64(x), np.zeros((3, 3, c_in, c_out)), padding=1)
    assert error(found[0], conv2d_backward.reference(to_float64(dy), cache)[1]) <= 1e-5


def test_parts_of_tiles():
    """Adding up the sums of the parts costs an eighth of what the tiles cost, or there are two."""
    assert [winograd_weights.parts_of(*case) for case in ((2048, 64, 64), (512, 64, 64), (850, 128, 128))] == [8, 2, 2]
    assert winograd_weights.parts_of(8192, 16, 32) == 16


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("activate", [True, False])
def test_pointwise_convolutions_as_products(stride, activate, monkeypatch):
    """Those with many weights go to the product of matrices; here all of them."""
    monkeypatch.setattr(direct, "HEAVY", 1)
    monkeypatch.setattr(direct, "LARGE", 1)
    rng = np.random.default_rng(9)
    x, w, b = draw(rng, 2, 9, 11, 40), draw(rng, 1, 1, 40, 33), draw(rng, 33)
    norm = (*(np.abs(draw(rng, 33)) + np.float32(0.5) for _ in range(4)), 1e-5)
    sizes = measure(x.shape, w.shape, stride)
    plus, beside = draw(rng, *x.shape), draw(rng, *sizes.out)
    how = {"norm": norm, "residual": beside, "activate": activate, "stride": stride}
    y, cache = fast_fused.conv2d_fused(x, w, b, **how)
    exact_how = how | {"norm": (*map(to_float64, norm[:4]), 1e-5), "residual": to_float64(beside)}
    exact, exact_cache = conv2d_fused.reference(to_float64(x), to_float64(w), to_float64(b), **exact_how)
    assert error(y, exact) <= 1e-6
    dy = draw(rng, *exact.shape) * (np.abs(exact) > 1e-3)  # no matter which side of the ReLU rounding takes
    wanted = conv2d_fused_backward.reference(to_float64(dy), exact_cache, plus=to_float64(plus))
    for one, right in zip(fast_fused.conv2d_fused_backward(dy.astype(np.float32), cache, plus=plus), wanted):
        assert error(one, right) <= 2e-6


@pytest.mark.parametrize("compute", [direct.weight_gradient, direct.pointwise_weight_gradient])
def test_weight_gradients_of_many_outputs_are_sums_of_sums(compute):
    """Numbers of one sign, which a single sum over all outputs would round twenty times as much (measured: 1.2e-5)."""
    rng, outputs = np.random.default_rng(2), 5100
    x, dy = draw(rng, 1, outputs // 50, 50, 24) + np.float32(1), draw(rng, 1, outputs // 50, 50, 32) + np.float32(1)
    exact = to_float64(x).reshape(-1, 24).T @ to_float64(dy).reshape(-1, 32)
    dw = compute(x, dy, measure(x.shape, (1, 1, 24, 32)))
    assert error(dw[0, 0], exact) <= 2e-6  # measured: 4e-7


@pytest.mark.parametrize("case", [(3, 1, 32, 32), (3, 2, 32, 32), (7, 2, 3, 32), (1, 1, 20, 40), (5, 1, 3, 7)])
@pytest.mark.parametrize("layout", [scattered, lambda b: np.broadcast_to(b[:1], b.shape)], ids=["scattered", "same"])
def test_a_bias_may_lie_anywhere(case, layout):
    """Every second number of an array, or one number for all channels: kernels read addresses."""
    kernel, stride, c_in, c_out = case
    rng = np.random.default_rng(6)
    x, w, b = draw(rng, 2, 33, 34, c_in), draw(rng, kernel, kernel, c_in, c_out), layout(draw(rng, c_out))
    options = {"stride": stride, "padding": kernel // 2}
    exact = conv2d.reference(to_float64(x), to_float64(w), to_float64(b), **options)[0]
    assert error(conv2d(x, w, b, **options)[0], exact) <= 1e-5
    assert error(conv2d_fused(x, w, b, **options)[0], exact) <= 1e-5


@pytest.mark.parametrize(
    "case", [(1024, 64, 1, 0), (512, 40, 2, 0), (1024, 3 * 32, 1, 1), (2048, 64, 3, ((2, 1), (0, 0)))]
)
def test_pixels_whose_channels_share_a_set_of_the_cache(case):
    """Their rows are copied apart, those in the padding and at the ends of lines, too."""
    c_in, c_out, stride, padding = case
    rng = np.random.default_rng(7)
    x, w = draw(rng, 2, 9, 31, c_in), draw(rng, 1, 1, c_in, c_out)
    exact, cache = conv2d.reference(to_float64(x), to_float64(w), stride=stride, padding=padding)
    found, fast_cache = fast.conv2d(x, w, stride=stride, padding=padding)
    assert error(found, exact) <= 2e-6  # measured: 5e-7
    dy = draw(rng, *exact.shape)
    for one, right in zip(fast.conv2d_backward(dy, fast_cache)[:2], conv2d_backward.reference(to_float64(dy), cache)):
        assert error(one, right) <= 2e-6


def test_what_convolutions_leave_to_numpy():
    rng = np.random.default_rng(1)
    x, w = draw(rng, 1, 8, 8, 4), draw(rng, 3, 3, 4, 5)
    assert fast.conv2d(to_float64(x), w) is NotImplemented
    assert fast.conv2d(x, w, stride=(1, 2)) is NotImplemented
    for change in ({"padding": -1}, {"stride": 0}):
        with pytest.raises(ValueError):
            conv2d(x, w, **change)
    exact = conv2d.reference(to_float64(x), to_float64(w), stride=(1, 2))[0]
    assert error(conv2d(x, w, stride=(1, 2))[0], exact) <= 1e-6


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activate", [False, True])
@pytest.mark.parametrize(
    "case", [(3, 32, 64, 1, 1), (3, 7, 33, 2, 1), (1, 20, 40, 1, 1), (7, 3, 16, 2, 1), (3, 8, 8, 1, 4)]
)
def test_fused_convolution(case, norm, residual, activate):
    """One store that normalises, adds and rectifies is the four operations one after the other."""
    kernel, c_in, c_out, stride, groups = case
    rng = np.random.default_rng(3)
    x, w, b = draw(rng, 2, 21, 18, c_in), draw(rng, kernel, kernel, c_in // groups, c_out), draw(rng, c_out)
    options = {"stride": stride, "padding": kernel // 2, "groups": groups, "activate": activate}
    if norm:
        options["norm"] = (*(np.abs(draw(rng, c_out)) + np.float32(0.5) for _ in range(4)), 1e-3)
    if residual:
        options["residual"] = draw(rng, *conv2d_fused.reference(x, w, b, **options)[0].shape)
    exact_options = {k: tuple(map(to_float64, v)) if k == "norm" else v for k, v in options.items()}
    if residual:
        exact_options["residual"] = to_float64(options["residual"])
    exact, exact_cache = conv2d_fused.reference(to_float64(x), to_float64(w), to_float64(b), **exact_options)
    fused, cache = fast_fused.conv2d_fused(x, w, b, **options)
    assert fused.dtype == np.float32
    assert error(fused, exact) <= 1e-5  # measured: 4e-6, by Winograd
    assert fast_fused.conv2d_fused(to_float64(x), w, b, **options) is NotImplemented

    dy, plus = draw(rng, *fused.shape), draw(rng, *x.shape)
    if activate:  # the same side of the kink on both, whatever the rounding
        exact_cache = exact_cache._replace(y=to_float64(fused))
    wanted = conv2d_fused_backward.reference(to_float64(dy), exact_cache, plus=to_float64(plus))
    got = fast_fused.conv2d_fused_backward(dy, cache, plus=plus)
    assert got._fields == wanted._fields
    for name, ours, exactly in zip(got._fields, got, wanted):
        assert (ours is None) == (exactly is None), name
        if ours is not None:
            assert ours.dtype == np.float32 and ours.shape == exactly.shape, name
            assert error(ours, exactly) <= 2e-5, name  # measured: 6e-6, by Winograd
    assert fast_fused.conv2d_fused_backward(dy, cache, need_dx=False).dx is None
    assert fast_fused.conv2d_fused_backward(to_float64(dy), cache) is NotImplemented
    assert fast_fused.conv2d_fused_backward(dy, cache, plus=plus[:, 1:]) is NotImplemented
    assert fast_fused.conv2d_fused_backward(dy[:, 1:], cache) is NotImplemented


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_few_input_channels(seed):
    """The input gradient of a stem: all phases of the input at once."""
    rng = np.random.default_rng(seed)
    c_in, c_out, stride = int(rng.integers(1, 5)), 4 * int(rng.integers(1, 6)), int(rng.integers(1, 4))
    kernel, pads = rng.integers(1, 8, 2), rng.integers(0, 5, (2, 2))
    size = np.maximum(rng.integers(1, 30, 2), kernel - pads.sum(axis=1))
    x, w = draw(rng, 2, *size, c_in), draw(rng, *kernel, c_in, c_out)
    sizes = measure(x.shape, w.shape, stride, pads)
    if few_channels.suits(sizes):
        y, cache = conv2d(x, w, stride=stride, padding=tuple(map(tuple, pads.tolist())))
        dy = draw(rng, *y.shape)
        dx = few_channels.scatter(dy, w, sizes)
        exact = conv2d_backward.reference(*to_float64((dy, cache)))[0]
        assert error(dx, exact) <= 2e-6  # measured: 1.3e-6
    else:
        assert c_in * stride**2 > 16  # what every width of a vector has room for


def test_large_outputs_go_past_the_caches(monkeypatch):
    """The same bits, whether a map is written to the caches or to memory."""
    rng = np.random.default_rng(6)
    x, w = draw(rng, 2, 9, 21, 64), draw(rng, 3, 3, 4, 64)
    y, cache = conv2d(x, w, padding=1, groups=16)
    assert y.ctypes.data % memory.LINE == 0
    assert not memory.streams(y)
    gradients = conv2d_backward(y, cache)
    monkeypatch.setattr(memory, "LARGE", 0)
    assert memory.streams(y)
    np.testing.assert_array_equal(conv2d(x, w, padding=1, groups=16)[0], y)
    for again, before in zip(conv2d_backward(y, cache)[:2], gradients[:2]):
        np.testing.assert_array_equal(again, before)


@pytest.mark.parametrize("c_out", [64, 80])  # 80: the last panel is too wide to be streamed, the others are not
def test_large_results_of_a_product_go_past_the_caches(c_out, monkeypatch):
    rng = np.random.default_rng(9)
    x, w, b = draw(rng, 1, 20, 23, 33), draw(rng, 1, 1, 33, c_out), draw(rng, c_out)
    residual = draw(rng, 1, 20, 23, c_out)
    before = conv2d_fused(x, w, b)[0], conv2d_fused(x, w, b, residual=residual, activate=True)[0]
    larger = conv2d_transpose(x, w, b, stride=2)[0]
    monkeypatch.setattr(memory, "LARGE", 0)
    monkeypatch.setattr(direct, "STREAMED", 0)
    assert memory.streams(before[0])
    np.testing.assert_array_equal(conv2d_fused(x, w, b)[0], before[0])
    np.testing.assert_array_equal(conv2d_fused(x, w, b, residual=residual, activate=True)[0], before[1])
    np.testing.assert_array_equal(conv2d_transpose(x, w, b, stride=2)[0], larger)


def test_input_gradient_can_be_left_out():
    rng = np.random.default_rng(4)
    x, w = draw(rng, 1, 9, 8, 3), draw(rng, 3, 3, 3, 5)
    y, cache = conv2d(x, w, stride=2, padding=1)
    for backward in (conv2d_backward, conv2d_backward.reference):
        dx, dw, _ = backward(y, cache, need_dx=False)
        assert dx is None
        np.testing.assert_array_equal(dw, backward(y, cache)[1])


def test_arrays_of_the_wrong_shape_never_reach_a_kernel():
    """A kernel has no bounds checks: what does not fit is left to NumPy, which broadcasts or raises."""
    rng = np.random.default_rng(5)
    x, w = draw(rng, 1, 8, 8, 4), draw(rng, 3, 3, 4, 5)
    _, cache = fast.conv2d(x, w, padding=1)
    assert fast.conv2d_backward(draw(rng, 1, 7, 8, 5), cache) is NotImplemented
    assert fast.conv2d_backward(draw(rng, 1, 8, 8, 4), cache) is NotImplemented
    _, cache = fast.conv2d_transpose(x, w)
    assert fast.conv2d_transpose_backward(draw(rng, 1, 15, 17, 5), cache) is NotImplemented
    assert fast_fused.conv2d_fused(x, w, padding=1, residual=draw(rng, 1, 1, 1, 5)) is NotImplemented
    short = (*(np.ones(4, np.float32) for _ in range(4)), 1e-5)
    assert fast_fused.conv2d_fused(x, w, padding=1, norm=short) is NotImplemented
