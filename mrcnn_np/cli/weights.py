"""``mrcnn-np weights info | convert | download``."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..errors import UserError, some_of
from ..model import MaskRCNN
from ..onnx.export import PARTS, write_onnx
from ..onnx.graph import require_onnx
from ..params import Params, count
from ..weights.download import download_weights, listing, published, sha256
from ..weights.load import save_weights
from ..weights.network import open_weights
from ..weights.place import file_of

SUFFIXES = {".safetensors": "safetensors", ".pth": "torchvision", ".pt": "torchvision", ".onnx": "onnx"}


def run_weights(args: argparse.Namespace) -> int:
    """Run one of the three commands."""
    return {"info": run_info, "convert": run_convert, "download": run_download}[args.weights_command](args)


def run_info(args: argparse.Namespace) -> int:
    """Print what a file holds and under which conventions."""
    path = file_of(args.file)
    weights, manifest, config = open_weights(path, args.preset, args.config)
    loaded = weights.loaded
    dtype = next(iter(loaded.values())).dtype
    print(f"{path}: {path.stat().st_size:,} bytes, sha256 {sha256(path)}")
    print(manifest.describe())
    print(f"found {len(loaded)} tensors, {count(loaded):,} parameters, {dtype}; they fit {config.name!r}")
    if weights.aside:
        print(f"left aside: {some_of(weights.aside, 4)}")
    if weights.drawn:
        print(f"not in the file, to be drawn at random: {len(weights.drawn)} tensors, {some_of(weights.drawn, 4)}")
    for line in _not_finite(loaded):
        print(line)
    if manifest.presumed:
        print("presumed: does not stand in the file; change it with --config FIELD=VALUE where it is wrong")
    return 0


def _not_finite(params: Params, shown: int = 8) -> list[str]:
    """Say which tensors hold NaN or infinity, and how many of them."""
    bad = {name: number for name, p in params.items() if (number := int((~np.isfinite(p)).sum()))}
    if not bad:
        return []
    lines = [f"warning: {sum(bad.values()):,} numbers in {len(bad)} tensors are NaN or infinite; networks refuse them"]
    lines += [f"  {name}: {n:,} of {params[name].size:,}" for name, n in list(bad.items())[:shown]]
    return lines + ([f"  and {len(bad) - shown} more"] if len(bad) > shown else [])


def run_convert(args: argparse.Namespace) -> int:
    """Write weights of any kind as safetensors with a manifest, for torchvision, or a whole network as ONNX."""
    source, target = file_of(args.source), Path(args.target)
    format = args.to or SUFFIXES.get(target.suffix)
    if format is None:
        raise UserError(
            f"{target}: expected a name that ends in {', '.join(SUFFIXES)}, or --to safetensors|torchvision|onnx"
        )
    if args.part is not None and format != "onnx":
        raise UserError(f"--part goes with --to onnx; {target} is to be written as {format}")
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError(f"{target} is the file to be read; choose another name")
    if target.is_dir() or not target.parent.is_dir():
        raise UserError(f"cannot write {target}: expected a file in a folder that exists")
    if format == "onnx":
        return _convert_to_onnx(source, target, args)
    weights, manifest, config = open_weights(source, args.preset, args.config)
    save_weights(target, weights.loaded, config, format=format, manifest=manifest)
    print(f"{len(weights.loaded)} tensors of {source} are in {target} ({format})")
    for line in _not_finite(weights.loaded):
        print(line)
    return 0


def _convert_to_onnx(source: Path, target: Path, args: argparse.Namespace) -> int:
    """Write the network as a graph that other programs run."""
    require_onnx()  # before a large file is read
    part = args.part or PARTS[0]
    model = MaskRCNN.load(source, preset=args.preset, overrides=args.config)
    write_onnx(target, model, part=part)
    print(f"{target}: {model.config.backbone} of {source} as ONNX ({part}), {target.stat().st_size:,} bytes")
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
