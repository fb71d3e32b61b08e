"""Tasks that are taken in turns: each is done once, by whoever is free, and the results do not show by whom."""

import numba
import numpy as np
import pytest
from numba import njit, prange

from kernels.cpu import convolution
from kernels.cpu.convolution import measure
from kernels.cpu.machine import threads
from kernels.cpu.machine.turns import new_turns, take


@njit(parallel=True)
def _count(workers, tasks, done, last):
    turns = new_turns()
    for worker in prange(workers):
        task = take(turns)
        while task < tasks:
            done[worker, task] += 1
            task = take(turns)
        last[worker] = task


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_each_task_is_taken_once(workers):
    done, last = np.zeros((workers, 10_000), np.int64), np.zeros(workers, np.int64)
    _count(workers, 10_000, done, last)
    assert (done.sum(axis=0) == 1).all()
    assert sorted(last) == list(range(10_000, 10_000 + workers))  # each learns once that nothing is left


def test_nothing_to_do():
    done, last = np.zeros((2, 1), np.int64), np.zeros(2, np.int64)
    _count(2, 0, done, last)
    assert done.sum() == 0


@pytest.fixture
def one_thread(monkeypatch):
    """Let one thread do the shares of two, as where another program needs a core."""
    before = numba.get_num_threads()
    monkeypatch.setattr(threads, "_start", None)  # nobody looks for free cores meanwhile

    def give_way():
        numba.set_num_threads(1)
        threads._state.given = 1

    threads.cut_into(2)
    yield give_way
    threads.cut_into(before)


# One convolution for each kernel that takes turns: many tiles, few tiles, stride 2, no tiles, a stem
SIZES = {
    "winograd": ((2, 40, 44, 32), (3, 3, 32, 48), 1, 1),
    "winograd, few tiles": ((1, 24, 24, 48), (3, 3, 48, 64), 1, 1),
    "winograd_strided": ((1, 100, 104, 32), (3, 3, 32, 32), 2, 1),
    "direct": ((1, 60, 70, 24), (1, 1, 24, 40), 1, 0),
    "stem": ((1, 96, 128, 3), (7, 7, 3, 32), 2, 3),
}


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one core")
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("what", ["forward", "dx", "dw"])
def test_bits_do_not_depend_on_who_is_free(name, what, one_thread):
    maps, weights, stride, padding = SIZES[name]
    sizes = measure(maps, weights, stride, padding, 1)
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in (maps, weights))
    dy = rng.standard_normal(sizes.out).astype(np.float32)
    compute = convolution.choose(convolution.TABLES[what], sizes)
    if what == "forward":
        assert compute.__module__.rpartition(".")[2] == name.partition(",")[0]
    a, b = {"forward": (x, w), "dx": (dy, w), "dw": (x, dy)}[what]
    together = compute(a, b, sizes)
    one_thread()
    assert threads.shares() == 2
    assert np.array_equal(compute(a, b, sizes), together)
