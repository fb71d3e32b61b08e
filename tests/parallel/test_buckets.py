"""Gradients are added up in buckets, as they come."""

import numpy as np
import pytest
from fake_ranks import on_ranks

from mrcnn_np.parallel.buckets import GradientSum

SHAPES = {"head.w": (3, 4), "head.b": (4,), "stem.gamma": (), "stem.w": (2, 2, 3), "stem.none": (0, 3)}


def gradients(rank, dtype=np.float32):
    rng = np.random.default_rng(rank)
    return {name: np.asarray(rng.standard_normal(shape), dtype) for name, shape in SHAPES.items()}


def added(ranks, bucket, names=SHAPES, earlier=None):
    own, given = gradients(ranks.rank), {}
    adding = GradientSum(ranks, names, earlier, bucket=bucket)
    for part in (["head.w", "head.b"], [], ["stem.gamma", "stem.w"], ["stem.none"]):
        given |= {name: own[name] for name in part}
        adding.ready(given)
    return adding.finish(), len(ranks._comm.calls)


@pytest.mark.parametrize("bucket, messages", [(1, 5), (40, 3), (1 << 20, 1)])
def test_the_sum_of_all_in_the_order_in_which_they_came(bucket, messages):
    expected = {name: gradients(0)[name] + gradients(1)[name] for name in SHAPES}
    for found, sent in on_ranks(2, lambda ranks: added(ranks, bucket)):
        assert list(found) == list(SHAPES)
        assert all(found[name].shape == g.shape and (found[name] == g).all() for name, g in expected.items())
        assert sent in (messages, messages - 1)


def test_only_what_is_wanted_travels_and_earlier_parts_are_added():
    earlier = {"stem.w": np.ones(SHAPES["stem.w"], np.float32)}
    for found, _ in on_ranks(3, lambda ranks: added(ranks, 8, {"stem.w"}, earlier)):
        assert list(found) == ["stem.w"]
        expected = sum(gradients(rank)["stem.w"] + 1 for rank in range(3))
        np.testing.assert_allclose(found["stem.w"], expected, rtol=1e-6)


def test_nothing_to_add_up():
    assert on_ranks(2, lambda ranks: added(ranks, 8, ())[0]) == [{}, {}]
