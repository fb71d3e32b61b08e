"""Chapter 4: the feature pyramid."""

from __future__ import annotations

import naive
import numpy as np

from mrcnn_np import presets
from mrcnn_np.fpn import fpn_spec


def test_1(fn):
    """Nearest upsampling by any whole scale."""
    rng = np.random.default_rng(1)
    for shape, scale in (((1, 2, 3, 1), 2), ((2, 3, 2, 4), 3), ((1, 1, 1, 2), 4), ((1, 4, 4, 1), 1)):
        x = rng.normal(size=shape)
        want, got = naive.upsample_nearest(x, scale), np.asarray(fn(x, scale))
        assert got.shape == want.shape, f"{shape} by {scale}: shape {got.shape}; expected {want.shape}"
        assert np.array_equal(got, want), f"{shape} by {scale}: cells are in the wrong places"


def test_2(fn):
    """Parameters of a pyramid without batch norm."""
    wants = [((256, 512, 1024, 2048), 256, 3_344_384)]
    for config in (presets.tiny(), presets.small(), presets.tiny().replace(fpn_channels=7)):
        spec = fpn_spec(config)
        widths = tuple(spec[f"fpn.lateral{k}.w"].shape[2] for k in (2, 3, 4, 5))
        wants.append((widths, config.fpn_channels, sum(int(np.prod(t.shape)) for t in spec.values())))
    for widths, channels, want in wants:
        got = fn(widths, channels)
        assert got == want, f"widths {widths} to {channels}: {got}; expected {want}"


def test_3(fn):
    """Cells of a level that hear one inner cell of a C."""
    for source in (2, 3, 4, 5):
        for k in (2, 3, 4, 5):
            heard = np.zeros((64, 64))
            heard[31, 31] = 1
            for _ in range(max(source - k, 0)):
                heard = heard.repeat(2, axis=0).repeat(2, axis=1)
            rows, columns = np.nonzero(heard)
            side = rows.max() - rows.min() + 3  # and the rim of a 3x3 convolution
            want = 0 if k > source else side * (columns.max() - columns.min() + 3)
            assert fn(source, k) == want, f"a cell of C{source} on P{k}: {fn(source, k)}; expected {want}"


def test_4(fn):
    """The adjoint of nearest upsampling."""
    rng = np.random.default_rng(4)
    for shape, scale in (((1, 2, 3, 1), 2), ((2, 3, 2, 4), 3), ((1, 4, 4, 1), 1)):
        x = rng.normal(size=shape)
        y = naive.upsample_nearest(x, scale)
        dy = rng.normal(size=y.shape)
        got = np.asarray(fn(dy, scale))
        assert got.shape == shape, f"scale {scale}: shape {got.shape}; expected {shape}"
        want = np.zeros(shape)
        for n, p, q, c in np.ndindex(*dy.shape):
            want[n, p // scale, q // scale, c] += dy[n, p, q, c]
        assert np.allclose(got, want), (
            f"scale {scale}: the first cell gets {got.flat[0]:.4f}; expected {want.flat[0]:.4f}"
        )


def test_5(fn):
    """Gradients that climb from fine to coarse."""
    rng = np.random.default_rng(5)
    dp = [rng.normal(size=(2**n, 2**n)) for n in (5, 4, 3, 2)]
    before = [d.copy() for d in dp]
    got = [np.asarray(g) for g in fn(dp)]
    assert all(np.array_equal(a, b) for a, b in zip(dp, before)), "the given gradients were changed in place"
    for k, g in zip((2, 3, 4, 5), got):
        want = np.zeros(dp[k - 2].shape)
        for source in range(2, k + 1):  # every finer level, each cell counted where it lies
            for p, q in np.ndindex(*dp[source - 2].shape):
                want[p >> (k - source), q >> (k - source)] += dp[source - 2][p, q]
        assert g.shape == want.shape, f"C{k}: shape {g.shape}; expected {want.shape}"
        assert np.allclose(g, want), f"C{k}: the first cell gets {g.flat[0]:.4f}; expected {want.flat[0]:.4f}"


MUTANTS = {
    1: [("x.repeat(scale, axis=1)", "np.tile(x, (1, scale, 1, 1))")],
    2: [("+ len(widths) * channels", ""), ("9 * channels", "3 * channels")],
    3: [("+ 2) ** 2", ") ** 2"), ("return 0", "return 9")],
    4: [(".sum(axis=(2, 4))", ".mean(axis=(2, 4))"), (".sum(axis=(2, 4))", ".sum(axis=(1, 3))")],
    5: [("own + collected", "collected"), ("finer = found[-1]", "finer = dp[len(found) - 1]")],
}
