"""Run both sides on the same image with the same weights and compare what they compute."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import kernels

from .. import __version__
from ..config import Config, presets
from ..errors import ConfigError, UserError
from ..model import MaskRCNN
from ..molding import plan
from ..params import Params
from ..synthetic import params_that_detect, picture
from .comparison import TOLERANCE, Comparison, compare
from .mask_rounding import pixels_left_to_rounding
from .rounding import FollowTheirRounding
from .trace import GIVEN, trace_ours

SIZE = (240, 320)


@dataclass(frozen=True)
class Framework:
    """Where the other side comes from.

    Attributes
    ----------
    module : str
        Has ``check(config)``, ``trace(params, config, image)``, and may have ``left_to_rounding(trace)``: the rows that
        rounding decides.
    packages : tuple of str
        What it imports.
    extra : str
        What of ours to install for it.
    preset : str
        Computes what the framework computes.
    dtypes : tuple of str
    """

    module: str
    packages: tuple[str, ...]
    extra: str
    preset: str
    dtypes: tuple[str, ...] = ("float32", "float64")


FRAMEWORKS = {
    "torchvision": Framework(".torchvision.model", ("torch", "torchvision"), "compare", "torchvision"),
    # tf.image crops and suppresses in float32 only
    "keras": Framework(".keras.model", ("tensorflow", "keras"), "compare-tf", "matterport", ("float32",)),
}


def require(name: str) -> Framework:
    """Return a framework that is installed.

    Raises
    ------
    UserError
        It is unknown, or a package is missing; the message says which, and how to install it.
    """
    if name not in FRAMEWORKS:
        raise UserError(f"no framework {name!r}; expected one of {', '.join(FRAMEWORKS)}")
    framework = FRAMEWORKS[name]
    missing = [package for package in framework.packages if importlib.util.find_spec(package) is None]
    if missing:
        needs = " and ".join(missing)
        raise UserError(
            f"comparing with {name} needs {needs}: not installed; pip install 'mrcnn-np[{framework.extra}]'"
        )
    return framework


def versions(framework: Framework) -> str:
    """Return what ran: our version and backend, and those of the packages."""
    others = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in _distributions(framework))
    return f"mrcnn-np {__version__} ({kernels.backend()} backend), numpy {np.__version__}, {others}"


def _distributions(framework: Framework) -> list[str]:
    names = importlib.metadata.packages_distributions()
    return [next(iter(names.get(package, [package]))) for package in framework.packages]


def compare_with(
    framework: str,
    image: np.ndarray | None = None,
    *,
    config: Config | None = None,
    params: Mapping[str, np.ndarray] | None = None,
    only_ours: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    seed: int = 0,
    tolerance: float | None = None,
    teacher_forced: bool = False,
    info: Mapping[str, str] | None = None,
) -> Comparison:
    """Detect in one image on both sides and compare every tensor on the way.

    Parameters
    ----------
    framework : {"torchvision", "keras"}
    image : ndarray of shape (H, W, 3), uint8, optional
        RGB; by default made-up noise of 240 x 320 pixels.
    config : Config, optional
        Of both sides; by default the framework's own preset.
    params : mapping of str to ndarray, optional
        Ours, for both sides; by default random ones that make every head fire.
    only_ours : mapping, optional
        Fields of the config that our side, and it alone, has otherwise: to see which tensor shows it first.
    dtype : {"float32", "float64"}
        Precision of both sides.
    seed : int
        Of the random image and weights.
    tolerance : float, optional
        Largest relative error; by default 1e-4 in float32, 1e-11 in float64.
    teacher_forced : bool
        Give our backbone their molded image, our second stage their proposals and our mask head their detections, so
        that a difference upstream does not hide agreement downstream.
    info : mapping of str to str, optional
        Further facts for the report.

    Returns
    -------
    Comparison
        Printed it is a table, in a notebook a table with pictures.

    Raises
    ------
    UserError
        The framework is missing, or the configuration is one that it does not have.
    """
    chosen = require(framework)
    if dtype not in chosen.dtypes:
        raise ConfigError(f"dtype is {dtype!r}; expected {' or '.join(chosen.dtypes)} with {framework}")
    config = presets.by_name(chosen.preset) if config is None else config
    ours_config = config.replace(**(only_ours or {}))
    side = importlib.import_module(chosen.module, __package__)
    side.check(config)
    image = picture(SIZE, seed) if image is None else image
    params = params_that_detect(config, seed, image) if params is None else params
    params = {name: p.astype(dtype) for name, p in params.items()}

    tolerance = TOLERANCE[dtype] if tolerance is None else tolerance
    theirs = side.trace(params, config, image)
    given = {name: theirs[name] for name in GIVEN if name in theirs} if teacher_forced else {}
    if "molded" in given and given["molded"].shape[1:3] != plan(image.shape[:2], ours_config).molded_shape:
        del given["molded"]  # a canvas of another size is no input for our anchors
    open_rows = side.left_to_rounding(theirs) if hasattr(side, "left_to_rounding") else {}
    if dtype == "float32" and "mask_probabilities" in theirs:
        shape = image.shape[:2]
        open_rows["masks"] = pixels_left_to_rounding(theirs["mask_probabilities"], theirs["boxes"], shape, config)
    follow = FollowTheirRounding(theirs, open_rows, tolerance)
    ours = trace_ours(MaskRCNN(ours_config, _copied(params)), image, given=given, follow=follow)
    result = compare(
        ours, theirs, tolerance, teacher_forced=teacher_forced, names=("mrcnn-np", framework),
        left_to_rounding=open_rows,
    )  # fmt: skip
    result.image = image
    height, width = image.shape[:2]
    canvas = ours["molded"].shape
    result.info = {
        **(info or {}),
        "image": f"{height} × {width} pixels, {canvas[1]} × {canvas[2]} after molding",
        "preset": f"{config.name}, {config.backbone}, {config.num_classes} classes, {dtype}",
        "tolerance": f"{result.tolerance:.0e} of a tensor's largest magnitude",
        "versions": versions(chosen),
    }
    if only_ours:
        result.info["on our side only"] = ", ".join(f"{name} = {value!r}" for name, value in only_ours.items())
    if teacher_forced:
        result.info["teacher forcing"] = (
            f"our backbone reads {framework}'s molded image, our box head its proposals, our mask head its detections"
        )
    return result


def _copied(params: Mapping[str, np.ndarray]) -> Params:
    return {name: p.copy() for name, p in params.items()}
