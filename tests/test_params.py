import numpy as np

from mrcnn_np.params import Spec, conv_spec, count, first_non_finite, norm_spec, trainable


def test_a_convolution_by_hand():
    assert conv_spec("a", 3, 4, 8, bias=True) == {
        "a.w": Spec((3, 3, 4, 8), (2 / 36) ** 0.5),  # sqrt(2 / (3 * 3 * 4))
        "a.b": Spec((8,), "zeros"),
    }
    assert list(conv_spec("a", 1, 4, 8, bias=False)) == ["a.w"]


def test_count_by_hand():
    # 3 * 3 * 4 * 8 = 288 weights, 8 biases; the running mean and variance of a norm are not learned
    shapes = {**conv_spec("a", 3, 4, 8, bias=True), **norm_spec("b", 8)}
    assert (count(shapes), count(shapes, "a"), count(shapes, "b")) == (312, 296, 16)
    assert count({}) == 0
    assert count({"x.w": np.zeros((2, 3)), "x.mean": np.zeros(9)}) == 6


def test_trainable():
    assert [trainable(f"bn.{s}") for s in ("w", "b", "gamma", "beta", "mean", "var")] == [True] * 4 + [False] * 2


def test_first_non_finite():
    fine, nan, inf = np.ones(3), np.array([1, np.nan]), np.array([np.inf])
    assert first_non_finite([("a", fine), ("b", nan), ("c", inf)]) == "b"
    assert first_non_finite([("c", inf)]) == "c"
    assert first_non_finite([("a", fine), ("empty", np.zeros(0))]) is None
