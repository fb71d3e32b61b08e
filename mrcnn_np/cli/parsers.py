"""The options of ``mrcnn-np``: all commands, and those of ``train``, ``detect`` and ``eval``."""

from __future__ import annotations

import argparse

from .. import __version__
from ..config.presets import PRESETS
from ..training.freezing import PARTS
from .parser_parts import (
    add_class_names,
    add_command,
    add_conventions_of_weights,
    add_network,
    add_source,
    at_least,
    probability,
)
from .parser_tools import add_bench, add_compare, add_conventions, add_data, add_warmup, add_weights


def build_parser() -> argparse.ArgumentParser:
    """Describe all commands and options."""
    parser = argparse.ArgumentParser(
        prog="mrcnn-np", description="Mask R-CNN in NumPy: train it, detect with it, measure it."
    )
    parser.add_argument("--version", action="version", version=f"mrcnn-np {__version__}")
    names = "train | detect | eval | data | bench | compare | conventions | weights | warmup"
    commands = parser.add_subparsers(dest="command", required=True, metavar=names)
    _add_train(commands)
    _add_detect(commands)
    _add_eval(commands)
    add_data(commands)
    add_bench(commands)
    add_compare(commands)
    add_conventions(commands)
    add_weights(commands)
    add_warmup(commands)
    return parser


def _add_train(commands: argparse._SubParsersAction) -> None:
    """Add ``train``. Defaults are None here where a resumed run is to remember them (options.Options)."""
    command = add_command(
        commands,
        "train",
        "train a model, evaluate it and draw what it finds",
        "  mrcnn-np train                                     the tiny preset on generated shapes, some minutes\n"
        "  mrcnn-np train --data voc --root VOCdevkit --preset small --out runs/voc\n"
        "  mrcnn-np train --out runs/voc --resume             go on after an interruption\n"
        "  mrcnn-np train --config learning_rate=0.01 --config 'decay_at=[0.5, 0.8]' --out runs/slow\n"
        "  mrcnn-np train --data voc --weights runs/coco/checkpoint.safetensors --freeze stem,c2,norm --steps 500\n"
        "  mrcnn-np train --data voc --weights resnet18-f37072fd.pth --preset small --freeze stem,c2,norm",
    )
    add_source(command, split="train", default="shapes")
    command.add_argument("--val-split", metavar="SPLIT", help="held-out split (default: val)")
    command.add_argument("--val-subset", type=at_least(1), metavar="N", help="evaluate the first N held-out images")
    command.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="network and conventions (default: tiny; with --weights: theirs, and whole networks of another preset are "
        "refused)",
    )
    command.add_argument(
        "--weights",
        metavar="FILE",
        help="start from weights of torchvision, detectron2, matterport or this package, whole networks or ImageNet "
        "backbones, with their conventions; what depends on the classes is drawn anew unless the names are the same",
    )
    add_class_names(command)
    command.add_argument(
        "--freeze",
        metavar="PARTS",
        help=f"parts that stay as they are, with commas between them: {', '.join(PARTS)} (batch norm of the backbone: "
        "norm). stem,c2,norm is what torchvision and detectron2 do with pre-trained backbones, backbone what "
        "matterport calls heads",
    )
    command.add_argument(
        "--config",
        action="append",
        metavar="FIELD=VALUE",
        help="change a field of the preset (listed by mrcnn-np conventions --list), or read changes from a JSON "
        "file; may be given several times, the last one counts",
    )
    command.add_argument("--steps", type=at_least(0), metavar="N", help="training steps (default: the preset's)")
    command.add_argument("--batch-size", type=at_least(1), metavar="N", help="images per step (default: the preset's)")
    command.add_argument("--size", type=at_least(1), metavar="PIXELS", help="image size (default: the preset's)")
    command.add_argument(
        "--seed", type=at_least(0), help="same seed, machine, backend and number of threads: same bits (default: 0)"
    )
    command.add_argument("--out", metavar="DIR", help="folder of the run (default: runs/DATA-PRESET)")
    command.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint in --out, with the options of that run; the result is that of an uninterrupted "
        "run, bit for bit. With a larger --steps a finished run goes on, at the rates of the longer schedule",
    )
    command.add_argument("--overwrite", action="store_true", help="replace a run that is in --out")
    command.add_argument(
        "--skip-bad",
        action="store_true",
        default=None,
        help="leave out images that cannot be read and annotations that are broken, and count them",
    )
    command.add_argument("--checkpoint-every", type=at_least(1), metavar="N", help="steps (default: 50)")
    command.add_argument(
        "--eval-splits", default="val", metavar="LIST", help="what is evaluated: train, val or train,val (default: val)"
    )
    command.add_argument("--no-eval", action="store_true", help="do not evaluate at the end")
    command.add_argument("--no-pictures", action="store_true", help="do not draw at the end")


def _add_coco_results(command: argparse.ArgumentParser, ground_truth: str) -> None:
    command.add_argument("--coco-results", metavar="FILE", help="write the detections as COCO's results JSON, too")
    command.add_argument("--ground-truth", metavar="FILE", help=ground_truth)


def _add_detect(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        "detect",
        "find the objects in images",
        "  mrcnn-np detect --run runs/shapes-tiny photo.jpg another.png --out found --score 0.5\n"
        "  mrcnn-np detect --weights model_final_f10217.pkl --preset detectron2 photo.jpg\n\n"
        "writes for every image NAME_detections.png (a picture), NAME_detections.json (classes, scores, boxes) and\n"
        "NAME_instances.png (a mask: pixel value n belongs to detection n). A file that is no image is reported, the\n"
        "others are done, and the exit code is 2.",
    )
    add_network(command, required=True)
    add_conventions_of_weights(command)
    add_class_names(command)
    command.add_argument("images", nargs="+", metavar="IMAGE", help="JPEG, PNG, ...")
    command.add_argument("--out", default="detections", metavar="DIR", help="default: %(default)s")
    command.add_argument(
        "--score", type=probability, default=0.5, metavar="S", help="keep detections of S or more (default: 0.5)"
    )
    numbers = "an instances JSON from which --coco-results takes the ids of images (by file name) and categories"
    _add_coco_results(command, numbers)


def _add_eval(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        "eval",
        "measure average precision on a split",
        "  mrcnn-np eval --run runs/shapes-tiny --method coco --iou-type mask\n"
        "  mrcnn-np eval --weights maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth --data coco --split val --method coco\n"
        "  mrcnn-np eval --results found.json --ground-truth instances_val2017.json\n\n"
        "Classes of --weights are those of the data set that have the same names.",
    )
    which = add_network(command, required=True)
    which.add_argument("--results", metavar="FILE", help="detections of any model, as COCO's results JSON")
    add_conventions_of_weights(command)
    add_class_names(command)
    _add_coco_results(command, "the instances JSON that --results belongs to (default: that of --split of --data coco)")
    command.add_argument(
        "--area",
        choices=("mask", "box"),
        default="mask",
        help="by what --results calls a detection small, medium or large where masks are compared: its mask, or its "
        "box, as pycocotools does with a file that has both (default: %(default)s)",
    )
    add_source(command, split="the held-out split of the run", default="that of the run")
    command.add_argument(
        "--method", choices=("voc07", "voc10", "coco"), help="whose rules (default: voc10; with --results: coco)"
    )
    command.add_argument("--iou-type", choices=("mask", "box", "both"), default="both", help="default: %(default)s")
    command.add_argument(
        "--skip-bad", action="store_true", help="leave out images that cannot be read and broken annotations"
    )
    command.add_argument(
        "--out", metavar="FILE", help="the numbers as JSON (default: eval-SPLIT.json in the run; none with --weights)"
    )
