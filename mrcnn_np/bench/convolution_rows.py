"""What each row of ``kernels.cpu.convolution`` gains: ``python -m mrcnn_np.bench.convolution_rows``.

Each row computes its example, and so does the next row that suits, or the NumPy body after the last one. The two take
turns, and the shortest time of each counts: what another process takes away only makes times longer. One thread, for
the same reason. The gains that this prints are those which stand in the tables.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numba import get_num_threads, set_num_threads

from kernels.contract import ConvCache
from kernels.cpu.convolution import TABLES, Geometry, Row, measure
from mrcnn_np.ops.conv import conv2d, conv2d_backward, conv2d_transpose

Example = tuple[tuple[int, ...], tuple[int, ...], int, int, int]


class Price(NamedTuple):
    """Shortest times in seconds, of a row of a table and of what takes over without it."""

    table: str
    row: str
    seconds: float
    instead: str
    seconds_instead: float


def geometry(table: str, example: Example) -> Geometry:
    """Return the sizes of an example; for a transposed convolution those of the convolution that it transposes."""
    if table == "transposed":
        ((n, rows, columns, _), (kh, kw, c_in, c_out), stride, _, _) = example
        larger = (n, (rows - 1) * stride + kh, (columns - 1) * stride + kw, c_out)
        example = larger, (kh, kw, c_out, c_in), stride, 0, 1
    sizes = measure(*example)
    if sizes is None:
        raise ValueError(f"the example {example} is no convolution")
    return sizes


def prices(examples: dict[str, list[Example]] | None = None, *, rounds: int = 20) -> Iterator[Price]:
    """Measure all rows.

    Parameters
    ----------
    examples : dict, optional
        For each table an example for each of its rows, instead of the rows' own.
    rounds : int
        How often each of the two computes.
    """
    rng = np.random.default_rng(0)
    for table, rows in TABLES.items():
        for i, row in enumerate(rows):
            sizes = geometry(table, examples[table][i] if examples else row.example)
            x, w, dy = (rng.standard_normal(s).astype(np.float32) for s in (sizes.maps, sizes.weights, sizes.out))
            following = next((other for other in rows[i + 1 :] if other.suits(sizes)), None)
            mine = _by_row(table, row, x, w, dy, sizes)
            its = _by_numpy(table, x, w, dy, sizes) if following is None else _by_row(table, following, x, w, dy, sizes)
            best = [np.inf, np.inf]
            for _ in range(rounds):
                for k, seconds in enumerate((mine, its)):
                    best[k] = min(best[k], seconds())
            name = "NumPy" if following is None else following.compute.__module__.split(".")[-1]
            yield Price(table, row.compute.__module__.split(".")[-1], best[0], name, best[1])


def _by_row(table: str, row: Row, *arrays: Any) -> Callable[[], float]:
    x, w, dy, sizes = arrays
    args = {"forward": (x, w), "dx": (dy, w), "dw": (x, dy), "transposed": (dy, w)}[table]
    return lambda: _seconds(lambda: row.compute(*args, sizes))


def _by_numpy(table: str, x: np.ndarray, w: np.ndarray, dy: np.ndarray, sizes: Geometry) -> Callable[[], float]:
    how: dict[str, Any] = {"stride": sizes.stride, "padding": sizes.padding, "groups": sizes.groups}
    cache = ConvCache(x, w, False, (sizes.stride,) * 2, sizes.padding, sizes.groups)
    backward = conv2d_backward.reference  # type: ignore[attr-defined]

    def of_weights() -> float:
        return _seconds(lambda: backward(dy, cache, need_dx=False))

    return {
        "forward": lambda: _seconds(lambda: conv2d.reference(x, w, **how)),  # type: ignore[attr-defined]
        "dx": lambda: _seconds(lambda: backward(dy, cache)) - of_weights(),  # there is no way to have it alone
        "dw": of_weights,
        "transposed": lambda: _seconds(
            lambda: conv2d_transpose.reference(dy, w.swapaxes(2, 3), stride=sizes.stride)  # type: ignore[attr-defined]
        ),
    }[table]


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main(examples: dict[str, list[Example]] | None = None, *, rounds: int = 20) -> None:
    """Print a line for each row."""
    threads = get_num_threads()
    set_num_threads(1)
    try:
        for table, row, seconds, instead, its in prices(examples, rounds=rounds):
            gain = f"{its / seconds:5.2f} x  instead of {instead}"
            sys.stdout.write(f"{table:10} {row:17} {1e3 * seconds:8.2f} ms {gain}: {1e3 * its:.2f} ms\n")
            sys.stdout.flush()
    finally:
        set_num_threads(threads)


if __name__ == "__main__":
    main()
