"""The options of ``data``, ``bench``, ``compare``, ``conventions``, ``weights`` and ``warmup``."""

from __future__ import annotations

import argparse

from ..config.presets import PRESETS
from .parser_parts import (
    add_command,
    add_conventions_of_weights,
    add_group,
    add_network,
    add_source,
    at_least,
    probability,
)


def add_data(commands: argparse._SubParsersAction) -> None:
    """Add ``data`` with its four kinds."""
    kinds = add_group(commands, "data", "generate, download or check a data set", "shapes | voc | coco | check")

    shapes = add_command(
        kinds,
        "shapes",
        "generate images of circles, squares and triangles, in the layout of Pascal VOC",
        "  mrcnn-np data shapes --root datasets/shapes-256 --size 256 --train 500",
    )
    shapes.add_argument("--root", default="datasets/shapes", metavar="DIR", help="default: %(default)s")
    for name, default, least in (("train", 1000, 1), ("val", 200, 1), ("size", 128, 32), ("seed", 0, 0)):
        what = {"size": "side in pixels", "seed": "random seed"}.get(name, f"images in {name}")
        shapes.add_argument(f"--{name}", type=at_least(least), default=default, help=f"{what} (default: {default})")
    shapes.add_argument("--overwrite", action="store_true", help="replace shapes generated with other options")

    voc = add_command(
        kinds,
        "voc",
        "download Pascal VOC 2012",
        "  mrcnn-np data voc --download --root datasets",
    )
    voc.add_argument("--download", action="store_true", help="fetch it (2 GB); an interrupted download is continued")
    voc.add_argument("--root", default="datasets", metavar="DIR", help="VOCdevkit goes here (default: %(default)s)")

    coco = add_command(
        kinds,
        "coco",
        "write the ground truth of a split as COCO's instances JSON, for other tools",
        "  mrcnn-np data coco --data voc --split val --out instances_val.json",
    )
    add_source(coco, split="train", default="shapes")
    coco.set_defaults(data="shapes", split="train")
    coco.add_argument("--out", required=True, metavar="FILE", help="the file to write")

    check = add_command(
        kinds,
        "check",
        "read every image of a split and report what is in it and what is wrong with it (exit code 2 if anything is)",
        "  mrcnn-np data check --data voc --root VOCdevkit --split trainval --good-ids good.txt",
    )
    add_source(check, split="train", default="shapes")
    check.set_defaults(data="shapes", split="train")
    check.add_argument("--good-ids", metavar="FILE", help="write the ids of the images without problems here")


def add_bench(commands: argparse._SubParsersAction) -> None:
    """Add ``bench``."""
    command = add_command(
        commands,
        "bench",
        "measure speed, errors and memory beside PyTorch and torchvision, where these are installed",
        "  mrcnn-np bench                                     everything, about half an hour on a quiet machine\n"
        "  mrcnn-np bench --only ops --match 'conv 3x3'",
    )
    command.add_argument(
        "--only",
        action="append",
        choices=("ops", "network", "scaling", "start", "busy", "presets"),
        help="may be given several times; busy (beside another program) and presets (each of them) only so",
    )
    command.add_argument("--match", default="", metavar="TEXT", help="operations whose name contains this")
    command.add_argument("--repeat", type=at_least(1), metavar="N", help="rounds (default: 7; networks: at most 3)")
    command.add_argument("--threads", type=at_least(1), metavar="N", help="for everyone (default: 2, if there are 2)")
    command.add_argument("--numpy", action="store_true", help="the numpy backend in the network table too (minutes)")
    command.add_argument("--without-torch", action="store_true", help="our own backends only")
    command.add_argument(
        "--quick", action="store_true", help="small sizes: tests that everything runs, measures nothing"
    )
    command.add_argument("--out", default="runs/bench", metavar="DIR", help="default: %(default)s")


def add_compare(commands: argparse._SubParsersAction) -> None:
    """Add ``compare``."""
    from .compare_options import add_options

    add_options(
        add_command(
            commands,
            "compare",
            "run torchvision's or Keras's Mask R-CNN beside ours, from the same weights, and compare every tensor",
            "  mrcnn-np compare --with torchvision photo.jpg      every tensor from the molded image to the masks\n"
            "  mrcnn-np compare --with torchvision --dtype float64 --size 256\n"
            "  mrcnn-np compare --with torchvision --only-ours bn_eps=0.001    which tensor shows it first?\n"
            "  mrcnn-np compare --with torchvision --train-steps 20 --size 128  losses and gradients\n"
            "  mrcnn-np compare --ops                             every operation, forward and backward\n"
            "  mrcnn-np compare --with keras --size 256\n\n"
            "exit code: 0 they agree, 1 they differ, 2 bad input or a framework that is not installed",
        )
    )


def add_conventions(commands: argparse._SubParsersAction) -> None:
    """Add ``conventions``."""
    command = add_command(
        commands,
        "conventions",
        "change one convention at a time and measure how far boxes, scores and masks move",
        "  mrcnn-np conventions --run runs/shapes-tiny              a trained network on a generated image\n"
        "  mrcnn-np conventions photo.jpg --run runs/voc --only roi_aligned --only anchor_offset\n"
        "  mrcnn-np conventions --preset torchvision                random weights, at full size (minutes)\n"
        "  mrcnn-np conventions --list                              what every field means and who has what\n\n"
        "writes conventions.md, conventions.json, conventions.png and crops.png into --out.",
    )
    command.add_argument("image", nargs="?", metavar="IMAGE", help="JPEG, PNG, ... (default: generated shapes)")
    which = add_network(command, required=False)
    which.add_argument("--preset", choices=tuple(PRESETS), help="random weights of this preset (default: tiny)")
    command.add_argument("--config", action="append", metavar="FIELD=VALUE", help="change the starting point")
    command.add_argument("--only", action="append", metavar="FIELD", help="this field; may be given several times")
    command.add_argument(
        "--score", type=probability, default=0.3, metavar="S", help="leave out detections below (default: %(default)s)"
    )
    command.add_argument("--seed", type=at_least(0), default=5, help="of the generated image (default: %(default)s)")
    command.add_argument("--out", default="runs/conventions", metavar="DIR", help="default: %(default)s")
    command.add_argument("--list", action="store_true", help="print the table of all fields as Markdown, and stop")


def add_weights(commands: argparse._SubParsersAction) -> None:
    """Add ``weights`` with its three kinds."""
    summary = "look into, convert or download weights of torchvision, detectron2 and matterport"
    kinds = add_group(commands, "weights", summary, "info | convert | download")

    info = add_command(
        kinds,
        "info",
        "print what a file holds, and the conventions that belong to it; nothing in it is executed",
        "  mrcnn-np weights info maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
    )
    info.add_argument("file", metavar="FILE", help="of torch.save, safetensors, detectron2 (.pkl), Keras (.h5) ...")
    add_conventions_of_weights(info)

    convert = add_command(
        kinds,
        "convert",
        "write weights of any kind as safetensors with their conventions, or as torchvision's state_dict",
        "  mrcnn-np weights convert model_final_f10217.pkl mask_rcnn_R_50_FPN.safetensors\n"
        "  mrcnn-np weights convert finetuned.safetensors for_torchvision.pth",
    )
    convert.add_argument("source", metavar="IN")
    convert.add_argument("target", metavar="OUT", help="replaced if it exists")
    convert.add_argument("--to", choices=("safetensors", "torchvision"), help="default: by the ending of OUT")
    add_conventions_of_weights(convert)

    download = add_command(
        kinds,
        "download",
        "fetch published weights, check them where a checksum is published, and print their sha256",
        "  mrcnn-np weights download                          the names\n"
        "  mrcnn-np weights download maskrcnn_resnet50_fpn --root weights",
    )
    download.add_argument("name", nargs="?", metavar="NAME", help="without it: list the names")
    download.add_argument("--root", default="weights", metavar="DIR", help="default: %(default)s")


def add_warmup(commands: argparse._SubParsersAction) -> None:
    """Add ``warmup``."""
    command = add_command(
        commands,
        "warmup",
        "compile ahead what training and detection need, which else the first run waits for",
        "  mrcnn-np warmup --preset tiny",
    )
    command.add_argument("--preset", choices=tuple(PRESETS), default="tiny", help="default: %(default)s")
