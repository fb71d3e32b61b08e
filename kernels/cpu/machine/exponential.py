"""exp and log(1 + .) as short polynomials that the compiler turns into vectors; the C library's take one at a time.

Only for what sigmoid, softmax and their losses need: exp of numbers up to 0, log(1 + e) of e in [0, 1]. Both are off by
at most two units in the last place. NaN stays NaN.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types

from .simd_python import power_of_two, with_twin

LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # their sum is ln 2; n * LN2_HIGH is exact
ROUND = np.float32(1.5 * 2**23)  # adding it leaves no room for a fraction: what is left is rounded
LOWEST = np.float32(-87.0)  # below it exp(x) < 1.7e-38 is taken as 0


@with_twin(power_of_two)
def _power_of_two(typingctx, rounded):
    """Return 2^n as a float, where ``rounded`` is n + ROUND: n stands in its low bits and moves to the exponent's."""

    def generate(context, builder, signature, args):
        i32 = ir.IntType(32)
        bits = builder.shl(builder.bitcast(args[0], i32), i32(23))
        return builder.bitcast(builder.add(bits, i32(127 << 23)), ir.FloatType())

    return types.float32(types.float32), generate


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def exp_negative(x):
    """Return exp(x) for x <= 0: 2^n exp(r), with x = n ln 2 + r and exp(r) from its Taylor series, |r| < 0.35."""
    inside = LOWEST if x < LOWEST else x
    rounded = inside * LOG2_E + ROUND
    n = rounded - ROUND
    r = (inside - n * LN2_HIGH) - n * LN2_LOW
    y = np.float32(1 / 5040)
    y = y * r + np.float32(1 / 720)
    y = y * r + np.float32(1 / 120)
    y = y * r + np.float32(1 / 24)
    y = y * r + np.float32(1 / 6)
    y = y * r + np.float32(1 / 2)
    y = y * r + np.float32(1)
    y = y * r + np.float32(1)
    return np.float32(0) if x < LOWEST else y * _power_of_two(rounded)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def log_one_plus(e):
    """Return log(1 + e) for e in [0, 1]: 2 artanh(z) with z = e / (2 + e) <= 1/3, from its Taylor series."""
    z = e / (np.float32(2) + e)
    s = z * z
    y = np.float32(2 / 15)
    y = y * s + np.float32(2 / 13)
    y = y * s + np.float32(2 / 11)
    y = y * s + np.float32(2 / 9)
    y = y * s + np.float32(2 / 7)
    y = y * s + np.float32(2 / 5)
    y = y * s + np.float32(2 / 3)
    y = y * s + np.float32(2)
    return z * y
