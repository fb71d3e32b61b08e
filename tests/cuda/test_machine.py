"""Simulated arrays refuse what CuPy refuses; the simulator runs kernels in any order and notices their faults."""

import numpy as np
import pytest

from kernels.cuda.machine import device
from kernels.cuda.machine.device import COPIES, cuda, float32, kernel, launch, to_device
from kernels.cuda.machine.simulator import shuffled


@kernel("f4[:,::1]", "f4", "i4", "f4[::1]")
def sum_scaled_rows(x, factor, columns, total):
    row, t = cuda.blockIdx.x, cuda.threadIdx.x
    parts = cuda.shared.array(8, float32)
    own = float32(0)
    for column in range(t, columns, 8):
        own += x[row, column] * factor
    parts[t] = own
    step = 4
    while step > 0:
        cuda.syncthreads()
        if t < step:
            parts[t] += parts[t + step]
        step //= 2
    if t == 0:
        total[row] = parts[0]


def test_a_kernel_runs_in_any_order_with_the_same_bits():
    x = np.random.default_rng(0).standard_normal((3, 21), np.float32)
    results = []
    for seed in (None, 1, 2):
        total = device.empty(3)
        if seed is None:
            launch(sum_scaled_rows, 3, 8, to_device(x), 2.0, 21, total)
        else:
            with shuffled(seed):
                launch(sum_scaled_rows, 3, 8, to_device(x), 2.0, 21, total)
        results.append(total.get())
    np.testing.assert_allclose(results[0], 2 * x.sum(axis=1), rtol=1e-5, atol=1e-6)
    assert all(result.tobytes() == results[0].tobytes() for result in results)


@kernel("f4[::1]")
def race(x):
    t = cuda.threadIdx.x
    shared = cuda.shared.array(1, float32)
    shared[0] = float32(t)
    cuda.syncthreads()
    x[t] = shared[0]


def test_a_race_shows_in_another_order():
    results = set()
    for seed in range(6):
        x = device.empty(8)
        with shuffled(seed):
            launch(race, 1, 8, x)
        results.add(x.get().tobytes())
    assert len(results) > 1


@kernel("f4[::1]")
def divergent(x):
    if cuda.threadIdx.x < 3:
        cuda.syncthreads()
    x[cuda.threadIdx.x] = float32(0)


def test_a_divergent_barrier_is_noticed():
    with pytest.raises(RuntimeError, match="divergent barrier: 5 of 8"):
        launch(divergent, 1, 8, device.empty(8))


def test_an_index_outside_is_noticed():
    with pytest.raises(IndexError, match=r"thread \(0, 0, 0\) of block \(1, 0, 0\)"):
        launch(sum_scaled_rows, 2, 8, device.zeros((1, 5)), 1.0, 5, device.zeros(1))


@kernel("f4[::1]", "i4[::1]")
def warp(x, votes):
    t = cuda.threadIdx.x
    value = float32(t)
    for distance in (16, 8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, distance)
    vote = cuda.ballot_sync(0xFFFFFFFF, t % 32 < 3)
    if t % 32 == 0:
        x[t // 32] = value
        votes[t // 32] = vote


def test_operations_of_a_warp():
    x, votes = device.empty(2), device.empty(2, np.int32)
    launch(warp, 1, 64, x, votes)
    assert x.get().tolist() == [sum(range(32)), sum(range(32, 64))] and votes.get().tolist() == [7, 7]


def test_no_block_is_no_launch():
    launch(divergent, (0, 5), 8, device.empty(0))


@pytest.mark.parametrize("wrong", [np.zeros(8, np.float32), device.zeros(8, np.float64), device.zeros(16)[::2], 1.0])
def test_a_kernel_takes_what_it_declares(wrong):
    with pytest.raises(TypeError, match="a kernel"):
        launch(race, 1, 8, wrong)


def test_a_flat_array_may_have_any_axes():
    x = device.empty((4, 2))
    launch(race, 1, 8, x)
    assert x.shape == (4, 2) and not np.isnan(x.get()).any()


# --- arrays ---------------------------------------------------------------------------------------------------------


def test_numpy_functions_and_operators_answer():
    host = np.arange(12, dtype=np.float32).reshape(3, 4)
    x = to_device(host)
    for result, expected in (
        (np.concatenate([x, x * 2], axis=0), np.concatenate([host, host * 2])),
        (np.where(x > 3, x, np.float32(0)), np.where(host > 3, host, 0)),
        (np.exp(-x[1:, ::2]), np.exp(-host[1:, ::2])),
        (x.sum(axis=0), host.sum(axis=0)),
        (x.reshape(-1)[to_device(np.array([3, 1]))], host.reshape(-1)[[3, 1]]),
        (1 / (x + 1), 1 / (host + 1)),
        (x.T @ x, host.T @ host),
        (np.zeros(3, np.float32, like=x), np.zeros(3, np.float32)),
    ):
        assert device.is_device(result) and result.dtype == expected.dtype
        np.testing.assert_array_equal(device.to_host(result), expected)
    y = x.copy()
    y += 1
    y[0] = x[1]
    np.multiply(y, 2, out=y)
    np.testing.assert_array_equal(y.get()[0], 2 * host[1])
    assert device.is_device(x[0, 0]) and x[0, 0].shape == ()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, host: np.asarray(x),
        lambda x, host: x + host,
        lambda x, host: host + x,
        lambda x, host: np.add(host, x),
        lambda x, host: np.concatenate([x, host]),
        lambda x, host: x[host.astype(int)],
        lambda x, host: np.where(x > 0, host, x),
        lambda x, host: np.lexsort((x,), axis=0) and None,
        lambda x, host: np.insert(x, 0, 1),
        lambda x, host: np.unique(x, sorted=False),
        lambda x, host: host.__setitem__(slice(None), x),
        lambda x, host: x.__setitem__(slice(None), host),
        lambda x, host: host[x.astype(int)],
        lambda x, host: range(x.astype(int)[0]),
        lambda x, host: np.add(x, x, where=x > 0),
    ],
)
def test_what_cupy_refuses_is_refused(wrong):
    host = np.arange(3, dtype=np.float32)
    with pytest.raises((TypeError, AttributeError, IndexError)):
        wrong(to_device(host), host)


def test_copies_are_counted():
    COPIES.reset()
    x = to_device(np.arange(4.0))
    assert to_device(x) is x and COPIES.to_device == 1
    assert float(x[1]) == 1.0 and x.sum().item() == 6.0 and bool((x >= 0).all())
    x[x > 1]
    np.nonzero(x)
    assert (COPIES.to_device, COPIES.to_host, COPIES.sizes) == (1, 3, 2)
