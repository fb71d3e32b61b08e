"""Chapter 0: a map."""

from __future__ import annotations

import numpy as np


def test_1(fn):
    """The map of classes of some masks."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (7, 9))
    masks = labels == np.arange(1, 5)[:, None, None]
    class_ids = np.array([3, 1, 1, 7])
    want = np.array([0, 3, 1, 1, 7])[labels]
    got = np.asarray(fn(masks, class_ids))
    assert got.shape == (7, 9), f"the map has shape {got.shape}; expected {(7, 9)}"
    assert np.array_equal(got, want), f"{(got != want).sum()} of 63 pixels have the wrong class"
    empty = np.asarray(fn(np.zeros((0, 7, 9), bool), np.zeros(0, int)))
    assert empty.shape == (7, 9) and not empty.any(), "without objects every pixel is background"


def test_2(fn):
    """How many anchors an image has."""
    for shape, want in (
        ((128, 128), 4092), ((1024, 1024), 261888), ((640, 640), 102300), ((256, 256), 16368),
        ((800, 1344), 268569), ((800, 800), 159882), ((32, 64), 513),
    ):  # fmt: skip
        got = fn(*shape)
        assert got == want, f"{shape[0]} x {shape[1]} pixels: {got}; expected {want}"


def test_4(fn):
    """The best constant logit, and what it costs."""
    for share in (0.5, 0.25, 0.01, 6 / 128, 0.9):
        logit, loss = fn(share)
        z = np.linspace(-8, 8, 160001)
        curve = share * np.log1p(np.exp(-z)) + (1 - share) * np.log1p(np.exp(z))
        best = curve.argmin()
        assert np.isclose(logit, z[best], atol=2e-4), f"share {share:.3g}: logit {logit:.4f}; expected {z[best]:.4f}"
        assert np.isclose(loss, curve[best], atol=1e-6), (
            f"share {share:.3g}: loss {loss:.4f}; expected {curve[best]:.4f}"
        )


def test_3(fn):
    """The first step whose inputs are missing."""
    needs = {"a": [], "b": ["a"], "c": ["a", "b"], "d": ["c"]}
    for order, want in (
        (["a", "b", "c", "d"], None), (["a", "c", "b", "d"], "c"), (["b", "a"], "b"), (["a", "d", "b", "c"], "d"),
        ([], None), (["a", "b", "d"], "d"),
    ):  # fmt: skip
        got = fn(order, needs)
        assert got == want, f"order {order}: {got!r}; expected {want!r}"


MUTANTS = {
    1: [("class_ids[k]", "k"), ("np.zeros(masks.shape[1:], int)", "np.ones(masks.shape[1:], int)")],
    2: [("-(-height // stride)", "height // stride"), ("(4, 8, 16, 32, 64)", "(4, 8, 16, 32)")],
    4: [("np.log(share / (1 - share))", "np.log(share)"), ("- (1 - share) * np.log(1 - share)", "")],
    3: [("done.add(step)", "done.update(needs)"), ("return step", "return None")],
}
