"""What one accelerated call has to do at least: multiplications and additions, and bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from kernels.contract import ConvCache, FusedConvCache, LinearCache, TransposedConvCache

PRODUCTS = (ConvCache, FusedConvCache, LinearCache, TransposedConvCache)
#: Winograd's F(4x4, 3x3): 6 x 6 multiplications for a tile of 4 x 4 results, in place of 4 x 4 x 3 x 3
WINOGRAD = 4


class Call(NamedTuple):
    """An accelerated call, as ``kernels.watch`` reports it.

    Attributes
    ----------
    name : str
    args : tuple
    kwargs : dict
    result : object
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    @property
    def given(self) -> tuple[Any, ...]:
        """All arguments."""
        return (*self.args, *self.kwargs.values())


def arithmetic(call: Call) -> int:
    """Return the multiplications and additions of a convolution or a fully connected layer; 0 for all else.

    A multiply-add is two. Both gradients take as much as the forward pass each; with ``need_dx=False`` there is one.
    Norm, bias, ReLU and padding are not counted: the windows are taken as whole.
    """
    backward = call.name.endswith("_backward")
    cache = _cache_of(call)
    if cache is None:
        return 0
    passes = 1 + call.kwargs.get("need_dx", True) if backward else 1
    if isinstance(cache, LinearCache):
        return 2 * passes * cache.x.size * cache.w.shape[1]
    kh, kw, c_in, c_out = cache.w.shape  # c_in is that of one group
    if isinstance(cache, TransposedConvCache):  # every cell of x stamps the kernel
        return 2 * passes * cache.x.size * kh * kw * c_out
    outputs = next(arrays(_values(call))).size  # of y, or of dy in its place
    return 2 * passes * outputs * kh * kw * c_in


def least_arithmetic(call: Call) -> int:
    """Return ``arithmetic``, of a 3x3 convolution with stride 1 the quarter that Winograd's multiplications are.

    Its transforms are not counted, so nothing that computes in float32 without larger tiles can do with less.
    """
    cache = _cache_of(call)
    by_winograd = isinstance(cache, ConvCache | FusedConvCache) and cache.w.shape[:2] == (3, 3)
    return arithmetic(call) // (WINOGRAD if by_winograd and tuple(cache.stride) == (1, 1) else 1)


def _values(call: Call) -> tuple[Any, ...]:
    """Return what a cache is found in: the result, of a gradient the arguments."""
    if call.name.endswith("_backward"):
        return call.given
    return call.result if isinstance(call.result, tuple) else ()


def _cache_of(call: Call) -> Any:
    return next((value for value in _values(call) if isinstance(value, PRODUCTS)), None)


def traffic(call: Call) -> int:
    """Return the bytes of all arrays that go in or come out, once each; several views of one array at most as it."""
    roots: dict[int, int] = {}
    views: dict[int, dict[tuple[int, int], int]] = {}
    for array in arrays((call.given, call.result)):
        root = root_of(array)
        roots[id(root)] = root.nbytes
        views.setdefault(id(root), {})[array.ctypes.data, array.nbytes] = array.nbytes
    return sum(min(size, sum(views[root].values())) for root, size in roots.items())


def layer_of(call: Call, names: Mapping[int, str]) -> str:
    """Return the layer whose parameters are met first among the arguments, also in a cache; empty if there is none.

    What gets a dictionary of parameters, as the optimiser does, belongs to no layer.

    Parameters
    ----------
    call : Call
    names : mapping of int to str
        The layer of each parameter by the array's ``id``.
    """
    if any(isinstance(value, Mapping) for value in call.given):
        return ""
    found = (names.get(id(array)) or names.get(id(root_of(array))) for array in arrays(call.given))
    return next((name for name in found if name), "")


def shape_of(call: Call) -> str:
    """Return the shape of the first result, of the first argument if there is none: ``1x200x272x256``."""
    first = next(arrays((call.result, call.given)), None)
    return "" if first is None else "x".join(map(str, first.shape))


def arrays(value: Any) -> Iterator[np.ndarray]:
    """Yield the arrays in tuples, lists and dictionaries, however deep, in their order."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple | list | Mapping):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from arrays(inner)


def root_of(array: np.ndarray) -> np.ndarray:
    """Return the array that an array is a view of, or itself."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
