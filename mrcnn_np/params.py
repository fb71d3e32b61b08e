"""Parameters are a flat dictionary ``name -> ndarray``: what one tensor is called, how it starts, how many there are.

Names follow the data flow: ``backbone.c3.0.conv2.w`` is the weight of the second convolution in the first block of C3.
The last part says what the array is:

====== =================================================== =========================================
suffix meaning                                             shape
====== =================================================== =========================================
w      weight                                              (kh, kw, C_in, C_out) or (C_in, C_out)
b      bias                                                (C_out,)
gamma  scale after normalisation                           (C,)
beta   shift after normalisation                           (C,)
mean   batch-norm running mean (not trained)               (C,)
var    batch-norm running variance (not trained)           (C,)
====== =================================================== =========================================

A ``Spec`` is a tensor that is not there yet. Every part of the network lists its own (``backbone_spec`` ...), and
``network.py`` puts the lists together: counting the parameters of a ResNet-152 allocates nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

Params = dict[str, np.ndarray]


@dataclass(frozen=True)
class Spec:
    """One tensor: its shape and how it starts.

    ``init`` is ``"zeros"``, ``"ones"``, or the standard deviation of a normal distribution.
    """

    shape: tuple[int, ...]
    init: str | float


def he_std(fan_in: int) -> float:
    """Return the deviation that keeps a ReLU layer's variance, sqrt(2 / fan_in) (He et al. 2015, eq. 10)."""
    return float(np.sqrt(2.0 / fan_in))


def conv_spec(
    name: str, kernel: int, c_in: int, c_out: int, *, bias: bool, std: float | None = None
) -> dict[str, Spec]:
    """Return the tensors of a convolution with a square kernel; ``std=None`` is He initialisation.

    Parameters
    ----------
    name : str
        Of the layer; ``.w`` and ``.b`` are put behind it.
    kernel : int
        Side of the kernel.
    c_in, c_out : int
        Channels.
    bias : bool
        Whether there is a bias.
    std : float, optional
        Standard deviation of the first weights.
    """
    spec = {f"{name}.w": Spec((kernel, kernel, c_in, c_out), he_std(kernel * kernel * c_in) if std is None else std)}
    if bias:
        spec[f"{name}.b"] = Spec((c_out,), "zeros")
    return spec


def norm_spec(name: str, channels: int, norm: str = "batch") -> dict[str, Spec]:
    """Return the tensors of a normalisation.

    Parameters
    ----------
    name : str
        Of the layer.
    channels : int
    norm : str
        ``config.norm``: batch norm has running statistics, group norm and instance norm have none.
    """
    shape = (channels,)
    learned = {f"{name}.gamma": Spec(shape, "ones"), f"{name}.beta": Spec(shape, "zeros")}
    running = {f"{name}.mean": Spec(shape, "zeros"), f"{name}.var": Spec(shape, "ones")}
    return learned | running if norm == "batch" else learned


def linear_spec(name: str, c_in: int, c_out: int, *, std: float | None = None) -> dict[str, Spec]:
    """Return the tensors of a fully connected layer; ``std=None`` is He initialisation.

    Parameters
    ----------
    name : str
        Of the layer; ``.w`` and ``.b`` are put behind it.
    c_in, c_out : int
        Numbers that come in and go out.
    std : float, optional
        Standard deviation of the first weights.
    """
    return {
        f"{name}.w": Spec((c_in, c_out), he_std(c_in) if std is None else std),
        f"{name}.b": Spec((c_out,), "zeros"),
    }


def draw(tensors: Mapping[str, Spec], rng: np.random.Generator, dtype: type = np.float32) -> Params:
    """Draw fresh parameters.

    Parameters
    ----------
    tensors : dict of str to Spec
        What ``network.spec`` or the ``_spec`` of one part of the network returns.
    rng : numpy.random.Generator
        Each tensor is drawn in turn, in this order.
    dtype : type
        float32, or float64 for gradient checks.

    Returns
    -------
    dict of str to ndarray
    """
    params: Params = {}
    for name, tensor in tensors.items():
        if tensor.init == "zeros":
            params[name] = np.zeros(tensor.shape, dtype)
        elif tensor.init == "ones":
            params[name] = np.ones(tensor.shape, dtype)
        else:
            params[name] = (rng.standard_normal(tensor.shape) * float(tensor.init)).astype(dtype)
    return params


def trainable(name: str) -> bool:
    """Tell whether a tensor is learned by gradient descent; running statistics are not."""
    return not name.endswith((".mean", ".var"))


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether one of the ``fnmatch`` patterns (``*.b``, ``backbone.*``) matches the whole name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def count(tensors: Mapping[str, Spec] | Mapping[str, np.ndarray], prefix: str = "") -> int:
    """Count the trainable numbers in all tensors whose name starts with ``prefix``."""
    return sum(int(np.prod(t.shape)) for name, t in tensors.items() if trainable(name) and name.startswith(prefix))


def shapes(tensors: Mapping[str, Spec] | Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by name."""
    return {name: t.shape for name, t in tensors.items()}


def first_non_finite(tensors: Iterable[tuple[str, np.ndarray]]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity, or ``None``."""
    return next((name for name, t in tensors if not np.isfinite(t).all()), None)
