"""Who does which task: whoever is free takes the next one.

Cut beforehand into one share for each thread, a loop lasts as long as its slowest thread. Threads are seldom equally
fast: processors have fast and slow cores, and those of a virtual machine share theirs with strangers. On two such
cores, each of which ran at 60 to 100 % of its peak from one moment to the next, equal shares cost a tenth of the speed.

So a kernel cuts its work into more tasks than there are threads, where there is enough of it, and each thread counts
on::

    turns = new_turns()
    for _thread in prange(threads):
        task = take(turns)
        while task < tasks:
            ...
            task = take(turns)

A task's result must not depend on who did which before, so that the bits stay the same: a task writes what no other
writes, and adds up what is its own. Two such loops, one behind the other, stay two: Numba does not fuse what calls
functions on arrays, and the second may read what the first has written.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from . import simd_python
from .simd import I64
from .simd_python import with_twin


@njit(cache=True, error_model="numpy")
def new_turns():
    """Return a counter at 0. Within a parallel kernel ``np.zeros`` would be a loop that starts all threads."""
    return np.zeros(1, np.int64)


@with_twin(simd_python.take)
def take(typingctx, turns):
    """Return the first number of an array of int64 and add one to it, as if no other thread could look meanwhile."""

    def generate(context, b, signature, args):
        counter = context.make_array(signature.args[0])(context, b, args[0])
        return b.atomic_rmw("add", counter.data, I64(1), "monotonic")

    return types.int64(turns), generate
