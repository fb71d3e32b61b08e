"""Layers, losses and descent on the device on the smallest inputs: the cases of the sweep over the CPU's kernels."""

import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest

import kernels
from kernels.cuda import KERNELS
from kernels.cuda.machine.device import is_device, to_device, to_host

spec = importlib.util.spec_from_file_location("cpu_sweep", Path(__file__).parents[1] / "kernels" / "test_sweep.py")
sweep = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sweep)

NAMES = ["batch_norm", "clip_gradients", "global_norm", "group_norm", "max_pool2d", "momentum_step", "relu"]
NAMES += ["resize_bilinear", "resize_nearest", "sigmoid", "sigmoid_cross_entropy", "smooth_l1", "softmax"]
NAMES += ["softmax_cross_entropy", "upsample_nearest"]


def moved(value, function):
    """Apply a function to all arrays in tuples, lists and dicts."""
    if isinstance(value, np.ndarray) or is_device(value):
        return function(value)
    if isinstance(value, dict):
        return {key: moved(v, function) for key, v in value.items()}
    if isinstance(value, tuple):
        parts = [moved(v, function) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def call(name, args, how):
    """Return the device's result and the arguments afterwards, all on the host; None if the kernel declines."""
    there = moved(copy.deepcopy(args), to_device)
    with np.errstate(all="ignore"):
        result = KERNELS[name](*there, **how)
    if result is NotImplemented:
        return None
    result = moved(result, to_host)
    if isinstance(result, np.ndarray) and result.shape == () and name in ("global_norm", "clip_gradients"):
        result = float(result)
    return result, (moved(there, to_host), how)


def left_to_numpy(name, args, how):
    """Return what NumPy's text makes of the device's arrays, on the host: there a kernel that declines leaves them."""
    there = moved(copy.deepcopy(args), to_device)
    with kernels.use("cuda"), np.errstate(all="ignore"):
        return moved(sweep.body(name)(*there, **how), to_host), (moved(there, to_host), how)


def backward_arguments(name, args, how, fast):
    """Yield a gradient and the cache of either backend."""
    (y, cache), _ = sweep.call(sweep.body(name), args, how)
    dy = sweep.draw(np.random.default_rng(1), *y.shape)
    return [(dy, one) for one in ((cache,) if fast is None else (cache, fast[0][1]))]


@pytest.mark.parametrize("extreme", sweep.EXTREMES)
@pytest.mark.parametrize("name", NAMES)
def test_smallest_inputs(name, extreme):
    ran = 0
    for args, how in sweep.CASES[name](np.random.default_rng(0), *sweep.EXTREMES[extreme]):
        fast = call(name, args, how)
        if fast is not None:
            sweep.check_same(fast, sweep.call(sweep.body(name), args, how))
            ran += 1
        else:
            sweep.check_same(left_to_numpy(name, args, how), sweep.call(sweep.body(name), args, how))
        if f"{name}_backward" in kernels._registry:
            for arguments in backward_arguments(name, args, how, fast):
                gradient = call(f"{name}_backward", arguments, {})
                if gradient is None:
                    gradient = left_to_numpy(f"{name}_backward", arguments, {})
                wanted = sweep.call(sweep.body(f"{name}_backward"), arguments, {})[0]
                sweep.check_same(gradient[0], wanted, "backward")
    assert ran or any(size == 0 for size in sweep.EXTREMES[extreme])
