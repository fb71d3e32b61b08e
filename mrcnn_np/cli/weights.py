"""``mrcnn-np weights info | convert | download``, and the network that ``detect --weights`` runs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config
from ..errors import CheckpointError, NonFiniteError, UserError, WeightFileError
from ..model import MaskRCNN
from ..params import Params, count, shapes
from ..weights.class_names import read_class_names
from ..weights.download import download_weights, listing, published, sha256
from ..weights.load import Weights, load_weights, save_weights, trusting
from ..weights.manifest import Manifest, match

SUFFIXES = {".safetensors": "safetensors", ".pth": "torchvision", ".pt": "torchvision"}


def run_weights(args: argparse.Namespace) -> int:
    """Run one of the three commands."""
    return {"info": run_info, "convert": run_convert, "download": run_download}[args.weights_command](args)


def run_info(args: argparse.Namespace) -> int:
    """Print what a file holds and under which conventions."""
    path = Path(args.file)
    weights, manifest, config = _open(path, args.preset, args.config)
    loaded = weights.loaded
    dtype = next(iter(loaded.values())).dtype
    print(f"{path}: {path.stat().st_size:,} bytes, sha256 {sha256(path)}")
    print(manifest.describe())
    print(f"found {len(loaded)} tensors, {count(loaded):,} parameters, {dtype}; they fit {config.name!r}")
    if weights.aside:
        print(f"left aside: {_some(weights.aside)}")
    if weights.drawn:
        print(f"not in the file, to be drawn at random: {len(weights.drawn)} tensors, {_some(weights.drawn)}")
    for line in _not_finite(loaded):
        print(line)
    if manifest.presumed:
        print("presumed: does not stand in the file; change it with --config FIELD=VALUE where it is wrong")
    return 0


def _some(names: tuple[str, ...], shown: int = 4) -> str:
    return ", ".join(names[:shown]) + (" ..." if len(names) > shown else "")


def _not_finite(params: Params, shown: int = 8) -> list[str]:
    """Say which tensors hold NaN or infinity, and how many of them."""
    bad = {name: number for name, p in params.items() if (number := int((~np.isfinite(p)).sum()))}
    if not bad:
        return []
    lines = [f"warning: {sum(bad.values()):,} numbers in {len(bad)} tensors are NaN or infinite; networks refuse them"]
    lines += [f"  {name}: {n:,} of {params[name].size:,}" for name, n in list(bad.items())[:shown]]
    return lines + ([f"  and {len(bad) - shown} more"] if len(bad) > shown else [])


def run_convert(args: argparse.Namespace) -> int:
    """Write weights of any kind as safetensors with a manifest, or for torchvision."""
    source, target = Path(args.source), Path(args.target)
    format = args.to or SUFFIXES.get(target.suffix)
    if format is None:
        raise UserError(
            f"{target}: expected a name that ends in {', '.join(SUFFIXES)}, or --to safetensors|torchvision"
        )
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError(f"{target} is the file to be read; choose another name")
    if target.is_dir() or not target.parent.is_dir():
        raise UserError(f"cannot write {target}: expected a file in a folder that exists")
    weights, manifest, config = _open(source, args.preset, args.config)
    save_weights(target, weights.loaded, config, format=format, manifest=manifest)
    print(f"{len(weights.loaded)} tensors of {source} are in {target} ({format})")
    for line in _not_finite(weights.loaded):
        print(line)
    return 0


def run_download(args: argparse.Namespace) -> int:
    """Fetch published weights, or list them."""
    if args.name is None:
        print(listing())
        return 0
    file = published(args.name)
    path = download_weights(file, args.root, progress=not args.quiet)
    algorithm, _, digits = file.checksum.partition(":")
    checked = f"its {algorithm} begins with the published {digits}" if digits else "its authors publish no checksum"
    print(f"{path}: {checked}; sha256 {sha256(path)}")
    return 0


def _open(path: Path, preset: str | None, overrides: list[str] | None) -> tuple[Weights, Manifest, Config]:
    """Read weights; what the user says of their conventions counts more than what is presumed."""
    weights = load_weights(path, preset=preset)
    if not overrides:
        return weights, weights.manifest, weights.manifest.config()
    config = weights.manifest.config().with_overrides(overrides)
    match(shapes(weights.loaded), shapes(weights.manifest.spec(config)), path)
    return weights, trusting(weights.manifest, config), config


def name_classes(manifest: Manifest, names: str | None, path: Path) -> Manifest:
    """Return the manifest with the class names that --class-names gives; see ``class_names.read_class_names``."""
    if names is None:
        return manifest
    if manifest.num_classes is None:
        raise UserError(f"--class-names names the classes of a network; {path} holds a backbone only")
    presumed = tuple(name for name in manifest.presumed if name != "class_names")
    return replace(manifest, class_names=read_class_names(names, manifest.num_classes), presumed=presumed)


def network(
    path: Path, preset: str | None, overrides: list[str] | None, class_names: str | None = None, **changes: Any
) -> tuple[MaskRCNN, tuple[str, ...]]:
    """Build the network that a file of weights belongs to.

    Parameters
    ----------
    path : Path
    preset : str, optional
        Refuse weights of another one.
    overrides : list of str, optional
        ``field=value``.
    class_names : str, optional
        See ``name_classes``.
    **changes
        Further config fields.

    Returns
    -------
    model : MaskRCNN
    class_names : tuple of str
        Empty if the file has no names and none are given.

    Raises
    ------
    WeightFileError
        They cannot be read, or belong to a backbone alone.
    """
    weights, manifest, config = _open(path, preset, overrides)
    if manifest.num_classes is None:
        raise WeightFileError(f"{path} holds the backbone {manifest.backbone} only, which detects nothing by itself")
    manifest = name_classes(manifest, class_names, path)
    try:
        return MaskRCNN(config.replace(**changes), weights.params), manifest.class_names
    except (CheckpointError, NonFiniteError) as error:
        raise WeightFileError(f"{path}: {error}") from error
