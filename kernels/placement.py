"""Where arrays live: on the host, where they are NumPy's, or on a device, where they are CuPy's.

CuPy's arrays answer NumPy's functions and operators, so most code need not know. What does need to know asks here:
the host's side of a network (files, images, random draws, results) and the dispatch. Nothing here imports a backend:
if no array was ever put on a device, there is none there.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import numpy as np

DEVICE = "kernels.cuda.machine.device"  # the module that puts arrays there

#: what a function changes in place, by its argument's name
CHANGED = {
    "batch_norm": ("mean", "var"),
    "clip_gradients": ("grads",),
    "crop_and_resize_backward": ("into",),
    "momentum_step": ("params", "velocity"),
    "roi_align_backward": ("into",),
}


def on_device(x: Any) -> bool:
    """Tell whether ``x`` is an array on a device."""
    if isinstance(x, np.ndarray):
        return False
    device = sys.modules.get(DEVICE)
    return device is not None and bool(device.is_device(x))


def as_array(x: Any) -> Any:
    """Return ``x`` as an array, where it lies: what is none yet (a list, run lengths) becomes NumPy's."""
    return x if hasattr(x, "__array_function__") else np.asarray(x)


def to_device(tree: Any) -> Any:
    """Return what ``tree`` holds with its arrays on the device: an array, or tuples, lists, dicts, dataclasses of such.

    The device's module must be loaded: a backend that has one is active, or was.
    """
    hosts: list[np.ndarray] = []
    _gather(tree, hosts, [])
    return _mapped(tree, sys.modules[DEVICE].to_device) if hosts else tree


def to_host(tree: Any) -> Any:
    """Return what ``tree`` holds with its arrays on the host; a tree as in ``to_device``."""
    device = sys.modules.get(DEVICE)
    if device is None:
        return tree
    devices: list[Any] = []
    _gather(tree, [], devices)
    return _mapped(tree, device.to_host) if devices else tree


def device_memory() -> tuple[int, int] | None:
    """Return the device's free memory and all of it, in bytes; None where there is no telling."""
    found: tuple[int, int] | None = sys.modules[DEVICE].memory()
    return found


def place(arrays: MutableMapping[str, Any], *, device: bool) -> None:
    """Bring all arrays of a dict to where they are needed, **in place**: those there already stay the same objects."""
    for name, array in arrays.items():
        if on_device(array) != device:
            arrays[name] = to_device(array) if device else to_host(array)


def _mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to every array in a tree; what holds none is returned as it is."""
    if isinstance(tree, np.ndarray) or on_device(tree):
        return function(tree)
    if isinstance(tree, (tuple, list)):
        parts = [_mapped(part, function) for part in tree]
        if all(new is old for new, old in zip(parts, tree)):
            return tree
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if isinstance(tree, Mapping):
        mapped = {key: _mapped(value, function) for key, value in tree.items()}
        return tree if all(mapped[key] is tree[key] for key in tree) else mapped
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        mapped = {field.name: _mapped(getattr(tree, field.name), function) for field in dataclasses.fields(tree)}
        same = all(mapped[name] is getattr(tree, name) for name in mapped)
        return tree if same else dataclasses.replace(tree, **mapped)
    return tree


# Most calls of a kernel have all their arrays on the device already. Finding that out must not take longer than the
# call: what to do with an object is looked up by its type.

_HOST, _DEVICE, _PARTS, _ITEMS, _FIELDS, _NOTHING = range(6)


@functools.lru_cache(maxsize=1024)
def _what_is(kind: Any) -> int:
    """Return what objects of this type are to ``_gather``."""
    if issubclass(kind, np.ndarray):
        return _HOST
    if issubclass(kind, sys.modules[DEVICE].Array):
        return _DEVICE
    if issubclass(kind, (tuple, list)):
        return _PARTS
    if issubclass(kind, Mapping):
        return _ITEMS
    return _FIELDS if dataclasses.is_dataclass(kind) else _NOTHING


def _gather(tree: Any, hosts: list[np.ndarray], devices: list[Any]) -> None:
    """Append the arrays of a tree to those of the host or of the device."""
    kind: Any = type(tree)
    what = _what_is(kind)
    if what == _NOTHING:
        return
    if what == _DEVICE:
        devices.append(tree)
    elif what == _HOST:
        hosts.append(tree)
    elif what == _PARTS:
        for part in tree:
            _gather(part, hosts, devices)
    elif what == _ITEMS:
        for part in tree.values():
            _gather(part, hosts, devices)
    elif not isinstance(tree, type):
        for name in _names_of_fields(kind):
            _gather(getattr(tree, name), hosts, devices)


def _has_host(tree: Any) -> bool:
    """Tell whether a tree holds an array of the host."""
    kind: Any = type(tree)
    what = _what_is(kind)
    if what in (_NOTHING, _DEVICE):
        return False
    if what == _PARTS:
        return any(map(_has_host, tree))
    if what == _ITEMS:
        return any(map(_has_host, tree.values()))
    if what == _FIELDS and not isinstance(tree, type):
        return any(_has_host(getattr(tree, name)) for name in _names_of_fields(kind))
    return what == _HOST


@functools.cache
def _names_of_fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def from_anywhere(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Let a kernel of the device take arrays of the host, too.

    If all arrays are on the host, so is the result: they are copied there and back, arrays that are changed in place
    included. If some are on the device, the others follow, and the result stays there. A network keeps all its arrays
    on the device; this is for single functions, and for a backward pass of what was computed elsewhere.
    """

    @functools.wraps(kernel)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not _has_host(args) and not _has_host(kwargs):
            return kernel(*args, **kwargs)
        hosts: list[np.ndarray] = []
        devices: list[Any] = []
        _gather((args, kwargs), hosts, devices)
        twins = {id(host): to_device(host) for host in hosts}
        there_args, there_kwargs = _mapped((args, kwargs), lambda x: twins.get(id(x), x))
        result = kernel(*there_args, **there_kwargs)
        if result is NotImplemented:
            return result
        _follow(name, kernel, (args, kwargs), (there_args, there_kwargs))
        if devices:
            return result
        back = {id(twins[id(host)]): host for host in hosts}
        return _mapped(result, lambda x: back[id(x)] if id(x) in back else to_host(x))

    return call


def _follow(name: str, kernel: Callable[..., Any], here: Any, there: Any) -> None:
    """Copy back what the kernel has changed in arrays of the host."""
    if name not in CHANGED:
        return
    signature = inspect.signature(kernel)
    ours, theirs = (signature.bind(*args, **kwargs).arguments for args, kwargs in (here, there))
    for argument in CHANGED[name]:
        for host, device in _pairs(ours.get(argument), theirs.get(argument)):
            changed = to_host(device)
            if not np.array_equal(changed, host, equal_nan=True):  # what stays may be read-only
                host[...] = changed


def _pairs(ours: Any, theirs: Any) -> list[tuple[np.ndarray, Any]]:
    """List the arrays of the host beside their twins on the device."""
    if isinstance(ours, Mapping):
        return [pair for key in ours for pair in _pairs(ours[key], theirs[key])]
    return [(ours, theirs)] if isinstance(ours, np.ndarray) else []
