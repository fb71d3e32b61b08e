"""Chapter 12: backpropagation, whole."""

from __future__ import annotations

import numpy as np

from mrcnn_np.ops.activation import relu, relu_backward


def test_1(fn):
    """How many windows read a pixel."""
    for n, k in ((6, 3), (5, 1), (7, 5), (4, 4)):
        for y, x in np.ndindex(n, n):
            want = sum(p <= y < p + k and q <= x < q + k for p, q in np.ndindex(n - k + 1, n - k + 1))
            got = fn(n, k, y, x)
            assert got == want, f"image of {n}, window of {k}, pixel ({y}, {x}): {got}; expected {want}"


def test_2(fn):
    """The backward pass of a fully connected layer with ReLU."""
    rng = np.random.default_rng(2)
    x, w, b = rng.normal(size=(5, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
    dy = rng.normal(size=(5, 4))
    y = np.maximum(x @ w + b, 0)
    got = fn(dy, x, w, y)
    assert len(got) == 3, f"{len(got)} gradients; expected dx, dw and db"
    for name, gradient, value in zip(("dx", "dw", "db"), got, (x, w, b)):
        assert np.shape(gradient) == value.shape, f"{name} has shape {np.shape(gradient)}; expected {value.shape}"
    steps = ((x, lambda v: (v, w, b)), (w, lambda v: (x, v, b)), (b, lambda v: (x, w, v)))
    for name, gradient, (value, with_value) in zip(("dx", "dw", "db"), got, steps):
        v = 1e-7 * rng.normal(size=value.shape)
        ahead, behind = (np.maximum(a @ m + c, 0) for a, m, c in (with_value(value + v), with_value(value - v)))
        want, has = ((ahead - behind) * dy).sum() / 2, (gradient * v).sum()
        assert np.isclose(has, want, rtol=1e-5, atol=0), f"{name}: the loss changes by {want:.3e}, it says {has:.3e}"


def test_3(fn):
    """The gradient of every element by central differences."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 3))
    kept = x.copy()
    got = np.asarray(fn(lambda a: float((a**3).sum()), x, 1e-4))
    assert np.array_equal(x, kept), "x was changed"
    assert got.shape == x.shape, f"shape {got.shape}; expected {x.shape}"
    assert np.allclose(got, 3 * x**2, atol=1e-6), (
        "wrong for the sum of cubes: a one-sided difference, or a wrong divisor?"
    )
    got = np.asarray(fn(lambda a: float(a[0, 1] * a[1, 2]), x, 1e-4))
    assert np.isclose(got[0, 1], x[1, 2]) and np.isclose(got[1, 2], x[0, 1]), "wrong for the product of two elements"
    assert np.count_nonzero(np.abs(got) > 1e-9) == 2, "elements that do not count have a gradient"


def test_4(fn):
    """The backward pass of scaling to length 1."""
    rng = np.random.default_rng(4)
    for size in (2, 5, 9):
        x, dy, v = rng.normal(size=(3, size))
        x *= 3
        ahead, behind = ((x + s * 1e-6 * v) / np.linalg.norm(x + s * 1e-6 * v) for s in (1, -1))
        want, has = ((ahead - behind) * dy).sum() / 2e-6, (np.asarray(fn(dy, x)) * v).sum()
        assert np.isclose(has, want, rtol=1e-6, atol=1e-8), f"{size} numbers: slope {has:.6f}; expected {want:.6f}"


def test_5(fn):
    """A place where the central difference of relu is off."""
    for eps in (1e-2, 1e-5, 1e-8):
        x = float(fn(eps))
        (ahead, _), (behind, _) = relu(np.array([x + eps])), relu(np.array([x - eps]))
        quotient = ((ahead - behind) / (2 * eps)).item()
        slope = relu_backward(np.ones(1), relu(np.array([x]))[1]).item()
        assert abs(quotient - slope) >= 0.4, f"step {eps:g}: the quotient is {quotient:.3f}, the slope {slope:g}"


def test_6(fn):
    """Which parts a loss reaches."""
    heads = {"rpn_class": "rpn", "rpn_box": "rpn", "head_class": "box_head", "head_box": "box_head"}
    for loss in (*heads, "head_mask"):
        for frozen in (False, True):
            want = {heads.get(loss, "mask_head"), "fpn"} | (set() if frozen else {"backbone"})
            got = set(fn(loss, frozen))
            assert got == want, f"{loss}, frozen={frozen}: {sorted(got)}; expected {sorted(want)}"


MUTANTS = {
    1: [("max(u - k + 1, 0)", "max(u - k, 0)"), ("min(u, n - k)", "u")],
    2: [("(y > 0)", "(y < 0)"), ("dz.sum(axis=0)", "dy.sum(axis=0)")],
    3: [("/ (2 * eps)", "/ eps"), ("f(x - step)", "f(x)")],
    4: [("y * (y * dy).sum()", "y * dy.sum()"), (") / length", ")")],
    5: [("0.05 * eps", "2 * eps")],
    6: [('"rpn_box": "rpn"', '"rpn_box": "box_head"'), ('| {"backbone"}', "")],
}
