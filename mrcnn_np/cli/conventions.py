"""``mrcnn-np conventions``: the table of conventions, and the switchboard on one image."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..config import Config
from ..config.presets import by_name
from ..conventions.document import read_page, rewrite
from ..conventions.report import write_report
from ..conventions.switchboard import switchboard
from ..conventions.table import markdown_table
from ..data.images import read_image
from ..data.sample import without_objects
from ..data.scene import SHAPES_CLASSES
from ..files import prepare
from ..model import MaskRCNN
from ..synthetic import generated_sample, params_that_detect
from ..weights.load import load_weights


def run_conventions(args: argparse.Namespace) -> int:
    """Print the table of conventions, or change one after the other and measure what moves."""
    if args.list:
        print(markdown_table(), end="")
        return 0
    if args.rewrite:
        read_page(Path(args.rewrite))
    model, class_names, described = _model(args)
    if args.image is None:
        sample, picture = generated_sample(model.config, args.seed), f"a generated image of shapes, seed {args.seed}"
    else:
        sample, picture = without_objects(read_image(args.image), Path(args.image).stem), str(args.image)
    out = Path(args.out)
    prepare(out)
    board = switchboard(model, sample, args.only, score=args.score, progress=not args.quiet)
    height, width = sample.image.shape[:2]
    title = f"Measured with {described} on {picture}, {height} x {width} pixels"
    print(write_report(out, board, class_names, title))
    print(f"written to {out}: conventions.md, conventions.json, conventions.png, crops.png")
    if args.rewrite:
        rewrite(Path(args.rewrite), board, class_names, title)
        print(f"rewritten: {args.rewrite} and its pictures")
    return 0


def _model(args: argparse.Namespace) -> tuple[MaskRCNN, tuple[str, ...], str]:
    """Return the network, its classes, and where it comes from, in words; by default one with random weights."""
    if args.run or args.checkpoint:
        from .network import checkpoint_path, load_model

        path = checkpoint_path(args)
        model, checkpoint = load_model(path)
        config = model.config.with_overrides(args.config or [])
        described = f"{path} ({config.name}, {checkpoint.step} steps)"
        return MaskRCNN(config, model.params), checkpoint.class_names, described
    if args.weights:
        weights = load_weights(args.weights)
        config = weights.manifest.config().with_overrides(args.config or [])
        model = MaskRCNN(config, weights.params)
        return model, _class_names(config, weights.manifest.class_names), f"{args.weights} ({weights.manifest.source})"
    config = by_name(args.preset or "tiny").with_overrides(args.config or [])
    names = _class_names(config, SHAPES_CLASSES)
    return MaskRCNN(config, params_that_detect(config)), names, f"random weights, preset {config.name}"


def _class_names(config: Config, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names if there is one for each class, else numbers."""
    if len(names) == config.num_classes:
        return tuple(names)
    return ("background", *(f"class {k}" for k in range(1, config.num_classes)))
