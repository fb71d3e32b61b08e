"""Batch norm over ranks is that of all maps together."""

import numpy as np
import pytest
from fake_ranks import on_ranks

from mrcnn_np.ops.norm import batch_norm, batch_norm_backward
from mrcnn_np.parallel.norm import batch_statistics_norm, batch_statistics_norm_backward, of_all
from mrcnn_np.parallel.ranks import ALONE

CHANNELS = 3
HOW = {"eps": 1e-3, "momentum": 0.1}


def given(sizes, dtype):
    rng = np.random.default_rng(0)
    maps = [(5 + 3 * rng.standard_normal((n, 4, 2, CHANNELS))).astype(dtype) for n in sizes]
    dys = [rng.standard_normal(x.shape).astype(dtype) for x in maps]
    gamma, beta, mean = rng.standard_normal((3, CHANNELS)).astype(dtype)
    return maps, dys, (gamma, beta, mean, rng.uniform(1, 2, CHANNELS).astype(dtype))


def over_ranks(sizes, dtype):
    maps, dys, parameters = given(sizes, dtype)

    def work(ranks):
        own = [p.copy() for p in parameters]
        with of_all(ranks):
            y, cache = batch_statistics_norm(maps[ranks.rank], *own, **HOW)
        return y, *batch_statistics_norm_backward(dys[ranks.rank], cache), *own[2:]

    return list(zip(*on_ranks(len(sizes), work)))


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3, 2), (0, 2), (2, 0, 0)])
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 5e-6)])
def test_it_is_the_norm_of_all(sizes, dtype, tolerance):
    maps, dys, parameters = given(sizes, dtype)
    gamma, beta, mean, var = (p.copy() for p in parameters)
    expected, cache = batch_norm(np.concatenate(maps), gamma, beta, mean, var, training=True, **HOW)
    gradients = batch_norm_backward(np.concatenate(dys), cache)
    ys, dxs, dgammas, dbetas, means, variances = over_ranks(sizes, dtype)
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(np.concatenate(ys), expected, **close)
    np.testing.assert_allclose(np.concatenate(dxs), gradients[0], **close)
    np.testing.assert_allclose(np.sum(dgammas, axis=0), gradients[1], rtol=tolerance, atol=100 * tolerance)
    np.testing.assert_allclose(np.sum(dbetas, axis=0), gradients[2], rtol=tolerance, atol=100 * tolerance)
    for running, whole in ((means, mean), (variances, var)):
        assert all((other == running[0]).all() for other in running)
        np.testing.assert_allclose(running[0], whole, **close)
    assert all(a.dtype == dtype for a in (*ys, *dxs, *dgammas, *means))


def test_nothing_anywhere_leaves_the_statistics_alone():
    _, _, parameters = given((0, 0), np.float64)
    ys, dxs, dgammas, _, means, variances = over_ranks((0, 0), np.float64)
    assert ys[0].shape == dxs[0].shape == (0, 4, 2, CHANNELS) and not np.any(dgammas)
    assert (means[1] == parameters[2]).all() and (variances[1] == parameters[3]).all()


def test_alone_it_is_the_operation_to_the_bit():
    maps, dys, parameters = given((3,), np.float32)
    one, other = ([p.copy() for p in parameters] for _ in range(2))
    with of_all(ALONE):
        y, cache = batch_statistics_norm(maps[0], *one, **HOW)
    expected, expected_cache = batch_norm(maps[0], *other, training=True, **HOW)
    assert (y == expected).all() and all((a == b).all() for a, b in zip(one, other))
    for a, b in zip(batch_statistics_norm_backward(dys[0], cache), batch_norm_backward(dys[0], expected_cache)):
        assert (a == b).all()
