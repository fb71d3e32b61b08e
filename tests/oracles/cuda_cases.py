"""What the tests of the kernels for a graphics card share."""

import numpy as np

from kernels.cuda.machine.device import is_device, to_device, to_host
from kernels.cuda.machine.simulator import shuffled


def device_tree(values):
    """Copy the arrays of a tuple to the device."""
    moved = [to_device(v) if isinstance(v, np.ndarray) else v for v in values]
    return type(values)(*moved) if hasattr(values, "_fields") else tuple(moved)


def check(found, wanted, tolerance=2e-6):
    """Compare an array on the device with one on the host, relative to the largest."""
    assert is_device(found), type(found)
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    scale = np.abs(wanted).max(initial=1)
    np.testing.assert_allclose(to_host(found), wanted, rtol=0, atol=tolerance * scale)


def boxes_of(rng, count, span):
    """Boxes on whole and half pixels: samples fall on edges and overlaps tie; some stick out, some are empty."""
    corner = rng.uniform(-0.2 * span, span, (count, 2))
    sides = rng.uniform(0, span, (count, 2))
    return np.round(np.concatenate([corner, corner + sides], axis=1) * 2).astype(np.float32) / 2


def same_in_any_order(function):
    """Check that a function's result has the same bits whatever the order of blocks and threads."""
    wanted = [to_host(a).tobytes() for a in function()]
    for seed in (1, 2):
        with shuffled(seed):
            assert [to_host(a).tobytes() for a in function()] == wanted
