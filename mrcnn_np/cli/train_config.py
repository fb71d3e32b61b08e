"""The configuration of a training: a preset or that of the weights, then what options say, and the data set."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from ..config import Config, presets
from ..data.sample import Dataset
from ..errors import ConfigError
from ..evaluate.split import pose_in, require_pose
from ..files import read_json
from ..keypoints.pose import pose_of
from ..training.freezing import frozen_patterns
from .options import Options

PRESET = "tiny"
#: what the sides of a square are a multiple of
STRIDE = 32


def make_config(options: Options, class_names: tuple[str, ...], base: Config | None = None) -> Config:
    """Build the configuration: preset (or ``base``), then each --config in turn, then the options of their own.

    Parameters
    ----------
    options : Options
    class_names : tuple of str
        Of the data set, the background first.
    base : Config, optional
        What the weights to start from belong to; by default the preset of the options.
    """
    config = base or presets.by_name(options.preset or PRESET, num_classes=len(class_names))
    # neighbours at once: neck and anchor_strides fit each other only together
    for is_field, texts in groupby(options.config, key=lambda text: "=" in text):
        if is_field:
            config = config.with_overrides(list(texts))
        else:
            for text in texts:
                config = _config_file(config, Path(text))
    changes: dict[str, Any] = {}
    if options.size is not None:
        _check_size(options.size, config)
        changes |= {"image_min_size": options.size, "image_max_size": options.size}
    if options.steps is not None:
        changes["steps"] = options.steps
    if options.batch_size is not None:
        changes["batch_size"] = options.batch_size
    if options.freeze:
        changes["frozen"] = tuple(dict.fromkeys((*config.frozen, *frozen_patterns(options.freeze))))
    config = config.replace(**changes)
    if config.num_classes != len(class_names):
        raise ConfigError(
            f"num_classes is {config.num_classes}; the data set has {len(class_names)} classes with background "
            "(leave the field out: it is filled in)"
        )
    return config


def _check_size(size: int, config: Config) -> None:
    """Refuse a side that no square can have, and say which are near."""
    if config.resize_mode != "square" or size % STRIDE == 0:
        return
    below = size // STRIDE * STRIDE
    near = f"{below} or {below + STRIDE}" if below else f"{STRIDE}"
    raise ConfigError(f"--size is {size}; expected a multiple of {STRIDE}, the stride of C5, such as {near}")


def _config_file(config: Config, path: Path) -> Config:
    values = read_json(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}; expected a JSON object of config fields")
    return config.replace(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def with_pose(config: Config, dataset: Dataset) -> Config:
    """Let a network with keypoints know what the data set calls them."""
    require_pose(dataset, config, "what is trained on")
    pose = pose_in(dataset)
    if not config.keypoints or pose is None or pose == pose_of(config):
        return config
    lines = tuple(end + 1 for line in pose.skeleton for end in line)
    return config.replace(keypoint_names=pose.names, keypoint_skeleton=lines)
