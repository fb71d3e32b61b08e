"""The arithmetic of the live picture is that of the package: the same inputs through Node and through NumPy."""

import numpy as np

from mrcnn_np.ops.activation import relu, relu_backward
from mrcnn_np.ops.conv import conv2d, conv2d_backward
from mrcnn_np.ops.linear import linear, linear_backward
from mrcnn_np.ops.pool import max_pool2d, max_pool2d_backward


def in_numpy(image, kernel, head, target):
    z, conv_cache = conv2d(image[None, :, :, None], kernel[:, :, None, None])
    r, relu_cache = relu(z)
    m, pool_cache = max_pool2d(r, kernel_size=2, stride=2)
    s, sum_cache = linear(m.reshape(1, 4), head.reshape(4, 1))
    dm, dhead, _ = linear_backward(s - target, sum_cache)
    dr = max_pool2d_backward(dm.reshape(m.shape), pool_cache)
    dz = relu_backward(dr, relu_cache)
    dx, dkernel, _ = conv2d_backward(dz, conv_cache)
    maps = {"conv": z, "relu": r, "pool": m, "d pool": dm.reshape(m.shape), "d conv": dz, "d image": dx}
    maps = {name: value[0, :, :, 0] for name, value in maps.items()}
    return {**maps, "score": s.item(), "d kernel": dkernel[:, :, 0, 0], "d head": dhead.reshape(2, 2)}


def test_gradient_path(in_node):
    rng = np.random.default_rng(0)
    cases = [(rng.normal(size=(6, 6)), rng.normal(size=(3, 3)), rng.normal(size=(2, 2)), t) for t in (0.0, 5.0, -3.0)]
    for case in cases:
        arguments = [np.asarray(a).tolist() for a in case]
        pixels = list(np.ndindex(6, 6))
        calls = [["forward", arguments], ["backward", arguments], *(["paths", [*arguments, *at]] for at in pixels)]
        ahead, back, *ways = in_node("gradient_path.math.js", calls)
        want = in_numpy(*case)
        for name in ("conv", "relu", "pool", "score"):
            np.testing.assert_allclose(ahead[name], want[name], rtol=1e-12, atol=1e-12)
        assert np.isclose(ahead["loss"], (want["score"] - case[3]) ** 2 / 2)
        for name, theirs in (("d pool", "pool"), ("d conv", "conv"), ("d image", "dimage"), ("d kernel", "dkernel")):
            np.testing.assert_allclose(back[theirs], want[name], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(back["dhead"], want["d head"], rtol=1e-12, atol=1e-12)
        for (y, x), found in zip(pixels, ways):
            assert np.isclose(sum(way[6] for way in found), want["d image"][y, x])
            assert len(found) == (min(y, 3) - max(y - 2, 0) + 1) * (min(x, 3) - max(x - 2, 0) + 1)


#: what the live picture does with the terms of a value
RULES = {
    "sum": sum,
    "relu": lambda terms: max(terms[0], 0),
    "largest": max,
    "square": lambda terms: (terms[0] - terms[1]) ** 2 / 2,
}


def product(term, numbers):
    """Multiply the factors of a term; a factor is a number or the place of one."""
    return np.prod([f if not isinstance(f, list) else numbers[f[3]][f[0]][f[1]][f[2]] for f in term])


def test_every_number_can_be_traced(in_node):
    """Value and gradient of every number are what the numbers that the live picture names for it make."""
    rng = np.random.default_rng(1)
    for target in (5.0, -3.0):
        case = [
            rng.normal(size=(6, 6)).tolist(),
            rng.normal(size=(3, 3)).tolist(),
            rng.normal(size=(2, 2)).tolist(),
            target,
        ]
        (numbers,) = in_node("gradient_path.math.js", [["numbers", case]])
        places = [
            [board, p, q] for board, rows in numbers["value"].items() for p, q in np.ndindex(len(rows), len(rows[0]))
        ]
        assert len(places) == 36 + 9 + 16 + 16 + 4 + 4 + 3
        traced = in_node("gradient_path.math.js", [["trace", [*case, *place]] for place in places])
        nudges = [[*place, by] for place in places for by in (1e-6, -1e-6)]
        moved = in_node("gradient_path.math.js", [["forward", [*case, nudge]] for nudge in nudges])
        for i, ((board, p, q), found) in enumerate(zip(places, traced)):
            value, gradient = numbers["value"][board][p][q], numbers["gradient"][board][p][q]
            terms = [product(term, numbers) for term in found["from"]]
            made = RULES[found["rule"]](terms) if terms else value
            assert np.isclose(made, value) and np.isclose(found["value"], value)
            assert (found["rule"] == "given") == (board in ("image", "kernel", "head", "target"))
            assert np.isclose(sum(product(term, numbers) for term in found["back"]), gradient)
            read = {"image": (min(p, 3) - max(p - 2, 0) + 1) * (min(q, 3) - max(q - 2, 0) + 1), "kernel": 16}.get(board)
            assert read is None or len(found["back"]) + found["silent"] == read
            pool = numbers["value"]["pool"][p // 2][q // 2] if board == "relu" else 1
            if pool > 0:  # four closed windows tie: a kink
                slope = (moved[2 * i]["loss"] - moved[2 * i + 1]["loss"]) / 2e-6
                assert np.isclose(slope, gradient, rtol=1e-5, atol=1e-7), (board, p, q)
