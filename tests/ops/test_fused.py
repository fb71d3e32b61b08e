"""The fused convolution against the operations it stands for, one after the other."""

import numpy as np
import pytest
from gradcheck import check_gradients

from mrcnn_np.ops.activation import relu, relu_backward
from mrcnn_np.ops.conv import conv2d, conv2d_backward
from mrcnn_np.ops.fused import conv2d_fused, conv2d_fused_backward
from mrcnn_np.ops.norm import batch_norm, batch_norm_backward


def make(rng, *, bias, norm, residual, groups=1, stride=1):
    x, w = rng.standard_normal((2, 5, 6, 4)), rng.standard_normal((3, 3, 4 // groups, 6))
    options = {"stride": stride, "padding": 1, "groups": groups}
    if norm:
        gamma, beta, mean = rng.standard_normal((3, 6))
        options["norm"] = (gamma, beta, mean, rng.uniform(0.5, 2, 6), 1e-3)
    if residual:
        options["residual"] = rng.standard_normal((2, -(-5 // stride), -(-6 // stride), 6))
    return x, w, rng.standard_normal(6) if bias else None, options


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activate", [False, True])
@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (2, 2)])
def test_equals_the_operations_one_by_one(bias, norm, residual, activate, groups, stride):
    rng = np.random.default_rng(0)
    x, w, b, options = make(rng, bias=bias, norm=norm, residual=residual, groups=groups, stride=stride)
    how = {key: options[key] for key in ("stride", "padding", "groups")}
    y, conv_cache = conv2d.reference(x, w, b, **how)
    if norm:
        *parameters, eps = options["norm"]
        y, bn_cache = batch_norm.reference(y, *parameters, eps=eps)
    y = y + options.get("residual", 0)
    if activate:
        y, relu_cache = relu.reference(y)
    fused, cache = conv2d_fused.reference(x, w, b, activate=activate, **options)
    np.testing.assert_array_equal(fused, y)

    dy, plus = rng.standard_normal(y.shape), rng.standard_normal(x.shape)
    got = conv2d_fused_backward.reference(dy, cache, plus=plus)
    if activate:
        dy = relu_backward.reference(dy, relu_cache)
    dresidual, dgamma, dbeta = dy, None, None
    if norm:
        dy, dgamma, dbeta = batch_norm_backward.reference(dy, bn_cache)
    dx, dw, db = conv2d_backward.reference(dy, conv_cache)
    wanted = (dx + plus, dw, db, dgamma, dbeta, dresidual if residual else None)
    for name, ours, theirs in zip(got._fields, got, wanted):
        assert (ours is None) == (theirs is None), name
        if ours is not None:  # measured: 3e-15; dgamma is summed in another order
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12, err_msg=name)
    assert conv2d_fused_backward.reference(dy, cache, need_dx=False).dx is None


def test_gradients():
    rng = np.random.default_rng(1)
    x, w, b, options = make(rng, bias=True, norm=True, residual=True)
    gamma, beta, mean, var, eps = options["norm"]

    def function(x, w, b, gamma, beta, residual):
        norm = (gamma, beta, mean, var, eps)
        y, cache = conv2d_fused.reference(x, w, b, norm=norm, residual=residual, padding=1, activate=True)
        return y, lambda dy: conv2d_fused_backward.reference(dy, cache)

    check_gradients(function, x, w, b, gamma, beta, options["residual"], rng=rng)


def test_dtype_and_bad_residual():
    rng = np.random.default_rng(2)
    x, w, b, options = make(rng, bias=True, norm=True, residual=False)
    x, w, b = (a.astype(np.float32) for a in (x, w, b))
    options["norm"] = (*(p.astype(np.float32) for p in options["norm"][:4]), 1e-3)
    y, cache = conv2d_fused.reference(x, w, b, activate=True, **options)
    gradients = conv2d_fused_backward.reference(y, cache)
    assert y.dtype == np.float32 and all(g.dtype == np.float32 for g in gradients[:5])
    with pytest.raises(ValueError, match=r"residual has shape \(1, 5, 6, 6\), expected \(2, 5, 6, 6\)"):
        conv2d_fused.reference(x, w, b, residual=y[:1], **options)
