"""The checker itself: right gradients pass, wrong ones fail with both numbers."""

import numpy as np
import pytest
from gradcheck import adjoint_error, check_gradients


def product(a, b):
    return a * b, lambda dy: (dy * b, dy * a)


def test_right_gradients_pass():
    rng = np.random.default_rng(0)
    check_gradients(product, rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), rng=rng)


def test_several_outputs_and_no_gradient():
    rng = np.random.default_rng(0)

    def f(x, index):
        return [x[index], np.sin(x)], lambda dy: (np.bincount(index, dy[0], len(x)) + dy[1] * np.cos(x), None)

    check_gradients(f, rng.normal(size=5), np.array([0, 2, 2]), rng=rng)


def test_single_argument_may_return_a_bare_array_and_empty_is_fine():
    rng = np.random.default_rng(0)
    for size in (3, 0):
        check_gradients(lambda x: (x**2, lambda dy: 2 * x * dy), rng.normal(size=size), rng=rng)


def test_wrong_gradient_names_argument_and_numbers():
    rng = np.random.default_rng(0)

    def wrong(a, b):
        return a * b, lambda dy: (dy * b, 1.00001 * dy * a)

    with pytest.raises(AssertionError, match=r"argument 1 .*numeric .*analytic"):
        check_gradients(wrong, rng.normal(size=5), rng.normal(size=5), rng=rng)


def test_zero_gradient_is_not_divided_by_zero():
    rng = np.random.default_rng(0)
    # A shift that the mean removes again: both sides are pure round-off.
    check_gradients(
        lambda b: (np.arange(4.0) + b - np.mean(np.arange(4.0) + b), lambda dy: np.zeros(1)), np.ones(1), rng=rng
    )


@pytest.mark.parametrize(
    ("f", "match"),
    [
        (lambda x: (x * np.nan, lambda dy: dy * np.nan), "argument 0"),
        (lambda x: (x + 0, lambda dy: dy[:1]), "shape"),
        (lambda x: (x + 0, lambda dy: dy.astype(np.float32)), "float32"),
        (lambda x: (np.add(x, 1, out=x), lambda dy: dy), "modified"),
        (lambda x: (x + 0, lambda dy: (dy, dy)), "2 gradients for 1"),
    ],
)
def test_other_failures(f, match):
    with pytest.raises(AssertionError, match=match):
        check_gradients(f, np.ones(3), rng=np.random.default_rng(0))


def test_float32_is_refused():
    with pytest.raises(AssertionError, match="float32"):
        check_gradients(lambda x: (x + 0, lambda dy: dy), np.ones(3, np.float32), rng=np.random.default_rng(0))


def test_adjoint_error():
    rng = np.random.default_rng(0)
    m = rng.normal(size=(3, 5))
    assert adjoint_error(lambda x: m @ x, lambda y: m.T @ y, (5,), (3,), rng) < 1e-15
    assert adjoint_error(lambda x: m @ x, lambda y: 1.01 * m.T @ y, (5,), (3,), rng) > 1e-5
