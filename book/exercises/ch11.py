"""Chapter 11: losses."""

from __future__ import annotations

import numpy as np

from mrcnn_np.ops.losses import (
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_backward,
    smooth_l1,
    smooth_l1_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)


def test_1(fn):
    """Softmax cross-entropy of one row."""
    rng = np.random.default_rng(1)
    rows = [(rng.normal(size=k), int(rng.integers(k))) for k in (2, 3, 7)]
    rows += [(np.array([1000.0, -1000, 0]), 1), (np.array([-1000.0, -1000]), 0)]
    for logits, label in rows:
        want, kept = softmax_cross_entropy(logits[None].copy(), np.array([label]))
        slope = softmax_cross_entropy_backward(np.ones(1), kept)[0]
        with np.errstate(all="ignore"):
            loss, gradient = fn(logits.copy(), label)
        assert np.isclose(loss, want[0]), f"logits {logits.round(2)}, class {label}: loss {loss}; expected {want[0]}"
        assert np.allclose(gradient, slope), f"logits {logits.round(2)}, class {label}: {gradient}; expected {slope}"


def test_2(fn):
    """Binary cross-entropy of logits."""
    rng = np.random.default_rng(2)
    for x, t in (
        (rng.normal(size=(3, 4)) * 3, rng.random((3, 4))),
        (np.array([-1000.0, 1000, 1000, 0]), np.array([0.0, 1, 0, 0.3])),
    ):
        want, kept = sigmoid_cross_entropy(x, t)
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            loss, gradient = fn(x.copy(), t.copy())
        assert np.allclose(loss, want), f"x = {x.ravel()[:4].round(2)}: loss {np.ravel(loss)[:4]}"
        slope = sigmoid_cross_entropy_backward(np.ones(x.shape), kept)
        assert np.allclose(gradient, slope), f"x = {x.ravel()[:4].round(2)}: gradient {np.ravel(gradient)[:4]}"


def test_3(fn):
    """A logit at which the obvious loss is infinite."""
    x = np.float32(fn())
    with np.errstate(all="ignore"):
        obvious = -np.log(1 - 1 / (1 + np.exp(-x)))
    assert x < 20, f"{x} is not below 20"
    assert np.isinf(obvious), f"at {x} the obvious program says {obvious}"


def test_4(fn):
    """Smooth L1 and its slope."""
    d = np.array([0.0, 0.05, -0.3, 0.5, 1.0, -1.0, 2.0, -3.0])
    for beta in (1.0, 1 / 9, 0.0, 2.5):
        want, kept = smooth_l1(d, 0 * d, beta=beta)
        with np.errstate(all="ignore"):
            loss, slope = fn(d.copy(), beta)
        assert np.allclose(loss, want), f"beta {beta:.2f}: loss {np.round(loss, 3)}; expected {want.round(3)}"
        right = smooth_l1_backward(np.ones(len(d)), kept)
        assert np.allclose(slope, right), f"beta {beta:.2f}: slope {np.round(slope, 3)}; expected {right.round(3)}"


def test_5(fn):
    """The gradient of the mask loss."""
    from mrcnn_np.objective import head_mask_loss, head_mask_loss_backward

    rng = np.random.default_rng(5)
    for ids in (np.array([3, 1, 1]), np.zeros(0, int)):
        logits, masks = rng.normal(size=(len(ids), 4, 4, 5)), rng.random((len(ids), 4, 4))
        want = head_mask_loss_backward(1.0, head_mask_loss(logits, ids, masks)[1])
        got = np.asarray(fn(logits.copy(), ids, masks))
        assert got.shape == want.shape, f"{len(ids)} regions: shape {got.shape}; expected {want.shape}"
        idle = [(r, k) for r, k in np.ndindex(len(ids), 5) if k != ids[r] and got[r, :, :, k].any()]
        assert not idle, f"region and class {idle[0]} have a gradient; nothing is asked of them"
        assert np.allclose(got, want), "the gradient of the true class is off"


def test_6(fn):
    """What a network without an opinion says."""
    for classes in (2, 4, 21, 81):
        got = [float(v) for v in fn(classes)]
        equal = softmax_cross_entropy(np.zeros((1, classes)), np.zeros(1, int))[0].item()
        half = sigmoid_cross_entropy(np.zeros(1), np.ones(1))[0].item()
        assert np.allclose(got, [half, equal, half]), f"{classes} classes: {np.round(got, 4)}"


MUTANTS = {
    1: [("logits - logits.max()", "logits"), ("gradient[label] -= 1", "gradient[label] -= 0.5")],
    2: [("np.exp(-np.abs(x))", "np.exp(-x)"), ("sigma - t", "sigma")],
    3: [("18.0", "12.0")],
    4: [("size - beta / 2", "size"), ("d / beta", "d")],
    5: [("- masks[r]", ""), ("/ max(masks.size, 1)", "")],
    6: [("np.log(classes)", "np.log(classes - 1)")],
}
