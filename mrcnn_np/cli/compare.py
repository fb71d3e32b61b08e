"""``mrcnn-np compare``: one detection, some steps of training, or every operation beside a framework's."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..compare.run import SIZE, compare_with, require, versions
from ..config import Config
from ..config.presets import by_name
from ..data.images import read_image
from ..errors import UserError
from ..files import prepare
from ..synthetic import params_that_detect, picture, sample_from
from ..weights.load import load_weights

AGREE, DIFFER = 0, 1
#: options that say nothing about single operations, as they are written
NOT_FOR_OPS = {
    "image": "IMAGE", "random": "--random", "weights": "--weights", "seed": "--seed", "preset": "--preset",
    "config": "--config", "only_ours": "--only-ours", "size": "--size", "dtype": "--dtype",
    "tolerance": "--tolerance", "teacher_forced": "--teacher-forced", "train_steps": "--train-steps",
}  # fmt: skip


def run_compare(args: argparse.Namespace) -> int:
    """Compare, print the table, write the report; 0 if all agrees and 1 if not."""
    framework = require(args.framework)
    out = Path(args.out)
    if args.ops:
        return _ops(args, out)
    args.dtype = args.dtype or "float32"
    config, params, described = _network(args, framework.preset)
    image, shown = _image(args)
    if args.train_steps is not None:
        return _training(args, out, config, params, image, {"weights": described, "picture": shown})
    prepare(out)
    result = compare_with(
        args.framework, image, config=config, params=params, only_ours=_changes(config, args.only_ours),
        dtype=args.dtype, seed=args.seed, tolerance=args.tolerance, teacher_forced=args.teacher_forced,
        info={"weights": described, "picture": shown},
    )  # fmt: skip
    print(result)
    _say_written(result.report().write(out, "compare"))
    return AGREE if result.agree else DIFFER


def _network(args: argparse.Namespace, preset: str) -> tuple[Config, Mapping[str, np.ndarray] | None, str]:
    """Return the configuration, the weights (None: random ones), and where these come from, in words."""
    if args.weights is not None:
        weights = load_weights(args.weights, preset=args.preset)
        config = _resized(weights.manifest.config(), args.size).with_overrides(args.config or [])
        drawn = f", {len(weights.drawn)} tensors of the heads random" if weights.drawn else ""
        return config, weights.params, f"{args.weights} ({weights.manifest.source}{drawn})"
    config = _resized(by_name(args.preset or preset), args.size).with_overrides(args.config or [])
    return config, None, f"random, seed {args.seed}"


def _resized(config: Config, size: int | None) -> Config:
    """Let images have this short side, or fit this square, and keep the preset's proportion of the sides."""
    if size is None:
        return config
    if config.resize_mode == "square":
        return config.replace(image_min_size=size, image_max_size=size)
    longest = round(size * config.image_max_size / config.image_min_size)
    return config.replace(image_min_size=size, image_max_size=longest)


def _changes(config: Config, assignments: list[str] | None) -> dict[str, Any]:
    """Return the fields that ``FIELD=VALUE`` arguments set."""
    changed = config.with_overrides(assignments or []).to_dict()
    return {name: changed[name] for name in (text.partition("=")[0] for text in assignments or [])}


def _image(args: argparse.Namespace) -> tuple[np.ndarray, str]:
    if args.image is not None:
        return read_image(args.image), str(args.image)
    height, width = args.random or SIZE
    return picture((height, width), args.seed), f"noise, seed {args.seed}"


def _say_written(paths: list[Path]) -> None:
    print(f"written: {', '.join(str(path) for path in paths)}")


def _training(
    args: argparse.Namespace,
    out: Path,
    config: Config,
    params: Mapping[str, np.ndarray] | None,
    image: np.ndarray,
    info: dict[str, str],
) -> int:
    if args.framework != "torchvision":
        raise UserError(f"--train-steps compares with torchvision only, not with {args.framework}")
    if args.only_ours or args.teacher_forced or args.tolerance is not None:
        raise UserError("--only-ours, --teacher-forced and --tolerance belong to a detection, not to --train-steps")
    from ..compare.fixed_relus import params_with_fixed_relus
    from ..compare.torchvision.model import check
    from ..compare.torchvision.training_steps import compare_training
    from ..molding import make_batch

    check(config)
    prepare(out)
    # Two images of different shapes, so that one is padded; both draw from them what they are to learn
    samples = [sample_from(image, config, seed=args.seed)]
    samples.append(sample_from(image.transpose(1, 0, 2), config, image_id="1", seed=args.seed + 1))
    if params is None and args.dtype == "float32":
        params = params_with_fixed_relus(config, make_batch(samples, config).images, args.seed)
        info["weights"] += ", under which no ReLU is near its kink"
    elif params is None:
        params = params_that_detect(config, args.seed, image)
    params = {name: p.astype(args.dtype) for name, p in params.items()}
    result = compare_training(params, config, samples, steps=args.train_steps, seed=args.seed)
    result.info = {**info, **result.info, "versions": versions(require(args.framework))}
    print(result)
    _say_written(result.report().write(out, "training"))
    return AGREE if result.agree else DIFFER


def _ops(args: argparse.Namespace, out: Path) -> int:
    if args.framework != "torchvision":
        raise UserError(f"--ops compares with PyTorch only, not with {args.framework}")
    given = [shown for name, shown in NOT_FOR_OPS.items() if getattr(args, name)]
    if given:
        raise UserError(
            f"{', '.join(given)} cannot be combined with --ops, which compares every operation on inputs of its own, "
            "in float32 and in float64"
        )
    from ..compare.operations.run import check_all, text, within, write

    prepare(out)
    rows = check_all(progress=not args.quiet)
    facts = versions(require(args.framework))
    print(text(rows))
    _say_written(write(rows, facts, out))
    return AGREE if all(within(row) for row in rows) else DIFFER
