"""The heart of the products as it is written, beside what the simulator runs in its place."""

import numpy as np
import pytest

from kernels.cuda.machine.device import REGISTRY, cuda, empty, float32, kernel, launch, to_device
from kernels.cuda.machine.tiles import SLAB, TILES, core, plan, shared_left, shared_right


def multiply_once(tile, quick):
    """Make a kernel that multiplies two slabs given to it, by the text or by what stands for it."""
    name = f"multiply_once_{tile.name}_{quick}"
    if name in REGISTRY:
        return REGISTRY[name]
    parts = core(tile)
    multiply = parts.multiply if quick else parts.multiply_text

    @kernel("f4[::1]", "f4[::1]", "f4[:,::1]", name=name)
    def body(left, right, out):
        t = cuda.threadIdx.x
        sums = cuda.local.array(64, float32)
        for i in range(64):
            sums[i] = float32(i)
        row, column = parts.place(t)
        multiply(left, right, 0, row, column, sums)
        multiply(left, right, 1, row, column, sums)
        for i in range(64):
            out[t, i] = sums[i]

    return body


@pytest.mark.parametrize("tile", TILES, ids=lambda tile: tile.name)
def test_the_text_multiplies_slabs(tile):
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal(size(tile), np.float32) for size in (shared_left, shared_right))
    results = []
    for quick in (False, True):
        out = empty((tile.threads, 64))
        launch(multiply_once(tile, quick), 1, tile.threads, to_device(left), to_device(right), out)
        results.append(out.get())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-5)
    a = left.reshape(2 * SLAB, -1)[:, : tile.rows].astype(float)
    b = right.reshape(2 * SLAB, -1)[:, : tile.columns].astype(float)
    product = a.T @ b
    place, half_down, half_across = core(tile).place, tile.warp_rows // 2, tile.warp_columns // 2
    owners = np.zeros(product.shape, int)
    for t in range(tile.threads):
        row, column = place(t)
        rows, columns = (
            start + np.r_[0:4, half : half + 4] for start, half in ((row, half_down), (column, half_across))
        )
        owners[np.ix_(rows, columns)] += 1
        expected = product[np.ix_(rows, columns)] + np.arange(64).reshape(8, 8)
        np.testing.assert_allclose(results[0][t].reshape(8, 8), expected, rtol=1e-4, atol=1e-4)
    assert (owners == 1).all()  # each number of the tile has one owner


def test_all_tiles_and_cut_sums_are_tried():
    chosen = [plan(rows, columns, slabs) for rows in (5, 80) for columns in (3, 4, 64) for slabs in (1, 9)]
    assert {choice.tile for choice in chosen} == set(TILES)
    assert {choice.splits > 1 for choice in chosen} == {True, False}
