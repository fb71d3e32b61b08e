"""Chapter 3: residual blocks."""

from __future__ import annotations

import numpy as np


def _forward(x, w1, w2):
    return np.maximum(np.maximum(x @ w1, 0) @ w2 + x, 0)


def test_1(fn):
    """A residual block of two 1 x 1 convolutions without norm, forward."""
    rng = np.random.default_rng(2)
    x, w1, w2 = rng.normal(size=(9, 4)), rng.normal(size=(4, 6)), rng.normal(size=(6, 4))
    assert np.allclose(fn(x, w1, w2), _forward(x, w1, w2)), "the block gives other numbers"


def test_2(fn):
    """The gradients of its input and of its weights."""
    rng = np.random.default_rng(3)
    given = [rng.normal(size=s) for s in ((9, 4), (4, 6), (6, 4))]
    dy = rng.normal(size=(9, 4))
    got = fn(dy, *given)
    assert isinstance(got, (tuple, list)) and len(got) == 3, "return three arrays: dx, dw1, dw2"
    for i, (name, gradient) in enumerate(zip(("dx", "dw1", "dw2"), got)):
        gradient = np.asarray(gradient)
        assert gradient.shape == given[i].shape, f"{name} has shape {gradient.shape}; expected {given[i].shape}"
        for _ in range(4):
            step = rng.normal(size=given[i].shape)
            low, high = ([a + sign * 1e-6 * step if j == i else a for j, a in enumerate(given)] for sign in (-1, 1))
            want = ((_forward(*high) - _forward(*low)) * dy).sum() / 2e-6
            assert np.isclose((gradient * step).sum(), want, rtol=1e-5), (
                f"{name}: a small step changes the loss otherwise"
            )


def test_3(fn):
    """Stride and kind of shortcut of every block of a network."""
    cases = {
        ("basic", (2, 2, 2, 1), (24, 48, 64, 96), 16): "P1 I1 P2 I1 P2 I1 P2",
        ("basic", (2, 2, 2, 2), (64, 128, 256, 512), 64): "I1 I1 P2 I1 P2 I1 P2 I1",
        ("bottleneck", (3, 1, 2, 1), (256, 512, 1024, 2048), 64): "P1 I1 I1 P2 P2 I1 P2",
    }
    for (kind, blocks, channels, stem), want in cases.items():
        got = [(int(stride), bool(projects)) for stride, projects in fn(blocks, channels, stem)]
        expected = [(int(word[1]), word[0] == "P") for word in want.split()]
        assert got == expected, f"{kind} {blocks}: {got}; expected {expected}"


def test_4(fn):
    """A grouped kernel written as a dense one."""
    rng = np.random.default_rng(4)
    for groups, each, out in ((1, 3, 2), (3, 2, 1), (2, 4, 3)):
        w = rng.normal(size=(3, 3, each, out * groups))
        got = np.asarray(fn(w, groups))
        want = np.zeros((3, 3, each * groups, out * groups))
        for c, o in np.ndindex(each * groups, out * groups):
            if c // each == o // out:
                want[:, :, c, o] = w[:, :, c % each, o]
        assert got.shape == want.shape, f"{groups} groups: {got.shape}; expected {want.shape}"
        assert np.allclose(got, want), f"{groups} groups: weights stand in other places"


def test_5(fn):
    """A change that a stride in the 1 x 1 cannot see."""
    x = np.random.default_rng(5).normal(size=(8, 6, 3))
    kept = x.copy()
    got = np.asarray(fn(x))
    assert np.array_equal(x, kept), "the map itself was changed; return another one"
    assert np.array_equal(got[::2, ::2], x[::2, ::2]), "the block sees this change"
    share = (got != x).all(axis=-1).mean()
    assert share == 0.75, f"{share:.0%} of the pixels are changed; 75% can be"


MUTANTS = {
    1: [(" + x", ""), ("@ w2 + x, 0)", "@ w2 + x, -9)")],
    2: [
        ("dsum + ", ""),
        ("* (hidden > 0)", ""),
        ("x.T @ dhidden", "x.T @ (dsum @ w2.T)"),
        ("hidden.T @ dsum", "hidden.T @ dy"),
    ],
    3: [("stage > 0 and i == 0", "i == 0"), ("before != after", "False")],
    4: [("g * each : (g + 1) * each", ": each"), ("each * groups, w.shape[3]", "each, w.shape[3]")],
    5: [("y[::2, ::2] = x[::2, ::2]", "y[::2] = x[::2]"), ("x + 1.0", "x + 0.0")],
}
