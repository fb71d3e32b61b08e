"""The arguments of ``mrcnn-np``: every command and its options, first what several commands share.

What decides the course of a training has no default here, because a resumed run remembers it (``options.Options``).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

from .. import __version__
from ..config.presets import PRESETS
from ..errors import did_you_mean
from ..training.freezing import PARTS
from .hints import assignment, options_meant, path_meant, point_meant, quotes_meant

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


class Once(argparse.Action):
    """Keeps a value, and refuses a second one, of which argparse would drop the first without a word."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Keep it, or end with exit code 2."""
        if hasattr(namespace, f"{self.dest}_once"):
            parser.error(
                f"{option_string} is given twice, {getattr(namespace, self.dest)} and {values}; expected one: "
                "`mrcnn-np data import A B --out DIR` makes one set of several"
            )
        setattr(namespace, self.dest, values)
        setattr(namespace, f"{self.dest}_once", True)


class Parser(argparse.ArgumentParser):
    """Says the nearest command, choice or option beside one that does not exist."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and let the command that was given say what is wrong with its options, with its own usage."""
        typed = sys.argv[1:] if args is None else args
        self._refuse_early(typed)
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command = self._given(parsed)
            hint = quotes_meant(typed, unknown, command.texts())
            hint = hint or path_meant(unknown, command.options())
            command.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        choice = re.search(r"invalid choice: (.*) \(choose from (.*)\)", message)
        unknown = message.partition("unrecognized arguments: ")[2].partition(";")[0]
        if choice:
            message += did_you_mean(choice[1].strip("'"), [name.strip("' ") for name in choice[2].split(",")])
        elif options := re.findall(r"(?<!\S)(--[^\s=]+)", unknown):
            message += options_meant(options, self.options())
        super().error(message)

    def format_help(self) -> str:
        """Fill in the data sets that can be read, which are looked up when they are asked for."""
        if any(action.help and "%(formats)s" in action.help for action in self._actions):
            from ..data.formats import in_words

            for action in self._actions:
                vars(action)["formats"] = in_words()
        return super().format_help()

    def options(self) -> list[str]:
        """Return the long options of this command; what its own commands have is theirs."""
        return [name for action in self._actions for name in action.option_strings if name.startswith("--")]

    def texts(self) -> list[str]:
        """Return the options of this command whose value may hold spaces: a path, a name, FIELD=VALUE."""
        texts = [a for a in self._actions if a.nargs is None and a.type in (None, assignment) and not a.choices]
        return [name for action in texts for name in action.option_strings]

    def _given(self, parsed: argparse.Namespace) -> Parser:
        """Return the parser of the command that was given, or of its own command."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                command: Parser = action.choices[getattr(parsed, action.dest)]
                return command._given(parsed)
        return self

    def _refuse_early(self, typed: Sequence[str]) -> None:
        """End with exit code 2 if an option of a command stands before it, where argparse would not know it."""
        command, before = self._typed(typed)
        names = dict.fromkeys(word.partition("=")[0] for word in before)
        early = [name for name in names if name in command._option_string_actions.keys() - self._option_string_actions]
        if early:
            verb = "comes" if len(early) == 1 else "come"
            command.error(f"{', '.join(early)} {verb} after the command: {command.prog} {' '.join(early)} ...")

    def _typed(self, typed: Sequence[str]) -> tuple[Parser, list[str]]:
        """Return the parser of the command that was typed, or of its own command, and the words before its name."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                place = next((k for k, word in enumerate(typed) if word in action.choices), None)
                if place is not None:
                    command, before = action.choices[typed[place]]._typed(typed[place + 1 :])
                    return command, [*typed[:place], *before]
        return self, []


def build_parser() -> argparse.ArgumentParser:
    """Describe all commands and options."""
    parser = Parser(prog="mrcnn-np", description="Mask R-CNN in NumPy: train it, detect with it, measure it.")
    parser.add_argument("--version", action="version", version=f"mrcnn-np {__version__}")
    names = "train | detect | eval | explain | runs | data | bench | compare | conventions | weights | warmup"
    commands = parser.add_subparsers(dest="command", required=True, metavar=names)
    _add_train(commands)
    _add_detect(commands)
    _add_eval(commands)
    _add_explain(commands)
    _add_runs(commands)
    _add_data(commands)
    _add_bench(commands)
    _add_compare(commands)
    _add_conventions(commands)
    _add_weights(commands)
    _add_warmup(commands)
    return parser


# --- values --------------------------------------------------------------------------------------------------------


def at_least(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers that are not below ``least``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return number

    return parse


def probability(text: str) -> float:
    """Read a number between 0 and 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1{point_meant(text, probability)}")
    return number


def size(text: str) -> tuple[int, int]:
    """Read ``HxW``."""
    height, _, width = text.lower().partition("x")
    try:
        sides = int(height), int(width)
    except ValueError:
        sides = 0, 0
    if not all(1 <= side <= 10000 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; expected HEIGHTxWIDTH in pixels, for example 240x320")
    return sides


def positive(text: str) -> float:
    """Read a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e300:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0{point_meant(text, positive)}")
    return value


# --- what several commands share --------------------------------------------------------------------------------------


def _add_command(commands: Commands, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    """Add one command with what all commands share."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.add_argument("--quiet", action="store_true", help="no progress bars")
    if name in ("train", "detect", "eval", "explain", "compare", "conventions"):
        command.add_argument(
            "--backend",
            choices=("numpy", "cpu", "cuda"),
            help="the readable NumPy code, its compiled twin, or kernels on an NVIDIA GPU (default: cpu, or what "
            "MRCNN_NP_BACKEND says)",
        )
        command.add_argument(
            "--threads", type=at_least(1), metavar="N", help="threads of the compiled kernels (default: all cores)"
        )
    return command


def _add_group(commands: Commands, name: str, summary: str, kinds: str) -> argparse._SubParsersAction:
    """Add a command that has commands of its own, whose names ``kinds`` lists for the help."""
    parser = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    return parser.add_subparsers(dest=f"{name}_command", required=True, metavar=kinds)


def _add_source(command: argparse.ArgumentParser, *, split: str, default: str, subset: str = "all") -> None:
    """Add the options that choose images.

    Parameters
    ----------
    command : ArgumentParser
    split, default, subset : str
        What the help says is chosen by default: of --split, --data and --subset.
    """
    command.add_argument(
        "--data",
        action=Once,
        metavar="PATH",
        help="a folder, a zip or a JSON, which is looked at to find out what it is; or the name of a kind of data "
        f"set, with --root (%(formats)s; default: {default})",
    )
    command.add_argument(
        "--root",
        metavar="DIR",
        help="where the data set is that --data names (default: datasets/shapes, generated if missing; for the others "
        "the environment variable VOC_ROOT, COCO_ROOT, DSB_ROOT, ...)",
    )
    command.add_argument("--split", help=f"train, val or trainval (default: {split})")
    command.add_argument("--subset", type=at_least(1), metavar="N", help=f"the first N images only (default: {subset})")
    command.add_argument("--ids", metavar="FILE", help="only the images whose ids stand in this file, one on a line")


def _add_val_fraction(command: argparse.ArgumentParser, what: str) -> None:
    """Add the option that draws a held-out split; ``what`` says what becomes of the share."""
    command.add_argument(
        "--val-fraction",
        type=probability,
        metavar="F",
        help=f"the share of the images that {what}; it is drawn by a hash of their names, so that adding images moves "
        "none. 0: nothing is held out",
    )


def _add_network(command: argparse.ArgumentParser, *, required: bool) -> argparse._MutuallyExclusiveGroup:
    """Add the options that choose a network, of which one may be given; return their group."""
    which = command.add_mutually_exclusive_group(required=required)
    which.add_argument("--run", metavar="DIR", help="folder of a training run")
    which.add_argument("--checkpoint", metavar="FILE", help="a checkpoint file itself")
    which.add_argument(
        "--weights",
        metavar="FILE",
        help="weights of torchvision, detectron2, matterport or this package, or the folder of a run",
    )
    return which


def _add_class_names(command: argparse.ArgumentParser) -> None:
    """Add the option that names the classes of a file of weights; most files do not name them."""
    command.add_argument(
        "--class-names",
        metavar="NAMES",
        help="what the classes of --weights are, where the file does not say: names with commas between them, or a "
        "file with one on each line",
    )


def _add_conventions_of_weights(command: argparse.ArgumentParser) -> None:
    """Add the options that contradict a file of weights, or insist on what it has to be."""
    command.add_argument("--preset", choices=tuple(PRESETS), help="refuse weights of other conventions than these")
    command.add_argument(
        "--config",
        action="append",
        type=assignment,
        metavar="FIELD=VALUE",
        help="change a field of the configuration that the weights imply, or of a run's one that changes no parameter; "
        "may be given several times",
    )


def _add_coco_results(command: argparse.ArgumentParser, ground_truth: str) -> None:
    command.add_argument("--coco-results", metavar="FILE", help="write the detections as COCO's results JSON, too")
    command.add_argument("--ground-truth", metavar="FILE", help=ground_truth)


# --- train, detect, eval ----------------------------------------------------------------------------------------------


def _add_train(commands: Commands) -> None:
    """Add ``train``. Defaults are None here where a resumed run is to remember them (options.Options)."""
    command = _add_command(
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
    _add_source(command, split="train", default="shapes")
    command.add_argument("--val-split", metavar="SPLIT", help="held-out split (default: val)")
    _add_val_fraction(command, "is held out if there is no split of that name (default: 0.1; with --no-eval 0)")
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
    _add_class_names(command)
    command.add_argument(
        "--freeze",
        metavar="PARTS",
        help=f"parts that stay as they are, with commas between them: {', '.join(PARTS)} (norms of the backbone: "
        "norm). stem,c2,norm is what torchvision and detectron2 do with pre-trained backbones, backbone what "
        "matterport calls heads",
    )
    command.add_argument(
        "--config",
        action="append",
        type=assignment,
        metavar="FIELD=VALUE",
        help="change a field of the preset (listed by mrcnn-np conventions --list), or read changes from a JSON "
        "file; may be given several times, the last one counts",
    )
    command.add_argument("--steps", type=at_least(0), metavar="N", help="training steps (default: the preset's)")
    command.add_argument(
        "--minutes",
        type=positive,
        metavar="M",
        help="instead of --steps: as many as fit into M minutes, planned from the first steps' time (a busy machine "
        "makes it longer or shorter); the schedule is stretched over them (a warm-up takes a tenth of them at most)",
    )
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
        "--eval-every",
        type=at_least(1),
        metavar="N",
        help="measure losses and AP of the held-out images every N steps, into metrics.jsonl, and keep the checkpoint "
        "with the best AP of masks as best.safetensors (default: never; --val-subset makes it shorter)",
    )
    command.add_argument(
        "--tensorboard",
        action="store_true",
        default=None,
        help="write TensorBoard's files, too, into tensorboard/ in the run's folder; needs the package tensorboardX",
    )
    command.add_argument(
        "--eval-splits",
        metavar="LIST",
        help="what is evaluated: train, val or train,val (default: val); also in a resumed run that was started with "
        "--no-eval",
    )
    command.add_argument("--no-eval", action="store_true", default=None, help="do not evaluate at the end")
    command.add_argument("--no-pictures", action="store_true", default=None, help="do not draw at the end")
    command.add_argument(
        "--pictures",
        dest="no_pictures",
        action="store_false",
        default=None,
        help="draw at the end of a resumed run that was started with --no-pictures",
    )


def _add_detect(commands: Commands) -> None:
    command = _add_command(
        commands,
        "detect",
        "find the objects in images",
        "  mrcnn-np detect --run runs/shapes-tiny photo.jpg another.png --out found --score 0.5\n"
        "  mrcnn-np detect --run runs/nuclei photos/ 'more/*/images/*.png' slides.zip film.mp4 --min-area 30\n"
        "  mrcnn-np detect --run runs/nuclei photos/ --labelme to-correct     then train --data to-correct\n"
        "  mrcnn-np detect --weights model_final_f10217.pkl --preset detectron2 photo.jpg\n\n"
        "writes for every image NAME_detections.png (a picture), NAME_detections.json (classes, scores, boxes) and\n"
        "NAME_instances.png (a mask: pixel value n belongs to detection n); of frame 7 of an animation, a video or a\n"
        "TIFF of several pages NAME is FILE_frame00007. A file that is no image is reported, the others are done, and\n"
        "the exit code is 2. Videos need the package imageio-ffmpeg or opencv-python.",
    )
    _add_network(command, required=True)
    _add_conventions_of_weights(command)
    _add_class_names(command)
    command.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="JPEG, PNG, ...; a video; a folder or a zip, of which all pictures are taken; a pattern in quotes",
    )
    command.add_argument("--out", default="detections", metavar="DIR", help="default: %(default)s")
    command.add_argument("--score", type=probability, metavar="S", help="keep detections of S or more (default: 0.5)")
    command.add_argument(
        "--size",
        type=at_least(1),
        metavar="PIXELS",
        help="resize pictures to this size instead of that of the training, for larger (smaller) pictures with objects "
        "of as many pixels; with more proposals and detections, as many times as the area is larger",
    )
    command.add_argument(
        "--every-class",
        action="store_true",
        help="let a region be an object of every class whose score suffices, not of the best class alone",
    )
    for limit, what in (("min", "at least"), ("max", "at most")):
        side = "shorter" if limit == "min" else "longer"
        command.add_argument(
            f"--{limit}-side", type=positive, metavar="PIXELS", help=f"the {side} side of the box is {what} so long"
        )
        command.add_argument(f"--{limit}-area", type=positive, metavar="PIXELS", help=f"the mask has {what} so many")
    command.add_argument(
        "--frame-step", type=at_least(1), default=1, metavar="N", help="every N-th frame only (default: %(default)s)"
    )
    command.add_argument("--no-pictures", action="store_true", help="do not draw")
    command.add_argument("--outlines", action="store_true", help="draw the masks' outlines and nothing else")
    command.add_argument(
        "--labelme",
        metavar="DIR",
        help="write labelme's JSON files and copies of the images into a new folder: correct by hand, train again",
    )
    command.add_argument(
        "--label-images",
        metavar="DIR",
        help="write images whose pixels are the numbers of objects, and copies of the images, into a new folder",
    )
    command.add_argument(
        "--table",
        metavar="FILE.csv",
        help="write one line for each object (class, score, box, pixels, centroid, grey level), and into "
        "FILE-pictures.csv one for each picture with its count",
    )
    command.add_argument(
        "--pixel-size",
        type=positive,
        metavar="MICROMETRES",
        help="side of a pixel of the pictures: --table says areas in square micrometres, too",
    )
    numbers = "an instances JSON from which --coco-results takes the ids of images (by file name) and categories"
    _add_coco_results(command, numbers)


def _add_eval(commands: Commands) -> None:
    command = _add_command(
        commands,
        "eval",
        "measure average precision on a split",
        "  mrcnn-np eval --run runs/shapes-tiny --method coco --iou-type mask\n"
        "  mrcnn-np eval --weights maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth --data coco --split val --method coco\n"
        "  mrcnn-np eval --results found.json --ground-truth instances_val2017.json\n\n"
        "Classes of --weights are those of the data set that have the same names.",
    )
    which = _add_network(command, required=True)
    which.add_argument("--results", metavar="FILE", help="detections of any model, as COCO's results JSON")
    _add_conventions_of_weights(command)
    _add_class_names(command)
    _add_coco_results(command, "the instances JSON that --results belongs to (default: that of --split of --data coco)")
    command.add_argument(
        "--area",
        choices=("mask", "box"),
        default="mask",
        help="by what --results calls a detection small, medium or large where masks are compared: its mask, or its "
        "box, as pycocotools does with a file that has both (default: %(default)s)",
    )
    _add_source(command, split="the held-out split of the run", default="that of the run")
    command.add_argument(
        "--method", choices=("voc07", "voc10", "coco"), help="whose rules (default: voc10; with --results: coco)"
    )
    command.add_argument(
        "--iou-type", choices=("mask", "box", "keypoints", "both"), default="both",
        help="default: both, and keypoints where there are any",
    )  # fmt: skip
    command.add_argument("--skip-bad", action="store_true", help="leave out images and annotations that are broken")
    command.add_argument(
        "--out", metavar="FILE", help="the numbers as JSON (default: eval-SPLIT.json in the run; none with --weights)"
    )


def _add_explain(commands: Commands) -> None:
    """Add ``explain``."""
    command = _add_command(
        commands,
        "explain",
        "say of each missed object where it was lost, of each false detection what it is, and what it costs",
        "  mrcnn-np explain --run runs/shapes-tiny\n"
        "  mrcnn-np explain --run runs/shapes-tiny --score 0.5 --image val_000000\n\n"
        "writes explain.json (every mistake with its numbers) and explain.html (pictures, the dearest first; with\n"
        "--image explain.png).",
    )
    _add_network(command, required=True)
    _add_conventions_of_weights(command)
    _add_class_names(command)
    _add_source(command, split="the held-out split of the run", default="that of the run")
    command.add_argument("--image", metavar="NAME", help="this image of the split only: its id or file name")
    command.add_argument("--score", type=probability, metavar="S", help="nothing below S counts as detected (default: "
                         "the detection_score_threshold of the network, as eval has it)")  # fmt: skip
    command.add_argument("--method", choices=("voc07", "voc10", "coco"), help="whose rules (default: voc10)")
    command.add_argument("--iou-type", choices=("mask", "box"), default="mask", help="default: %(default)s")
    command.add_argument("--iou", type=probability, metavar="T", help="overlap of what is found (default: 0.5)")
    command.add_argument("--no-oracles", action="store_true", help="do not measure what perfect parts would give")
    command.add_argument("--pictures", type=at_least(0), default=40, metavar="N", help="at most (default: %(default)s)")
    command.add_argument("--skip-bad", action="store_true", help="leave out images and annotations that are broken")
    command.add_argument(
        "--out", metavar="DIR", help="default: explain-SPLIT in the run, runs/explain-SPLIT with --weights"
    )


def _add_runs(commands: Commands) -> None:
    """Add ``runs``."""
    command = _add_command(
        commands,
        "runs",
        "compare trainings: which settings differ, what came out, and how far a difference is to be trusted",
        "  mrcnn-np runs runs/before runs/after\n"
        "  mrcnn-np runs runs/before                          what differs from the defaults of its preset",
    )
    command.add_argument(
        "folders", nargs="+", metavar="DIR", help="folders of runs; AP is compared with that of the first"
    )
    command.add_argument("--out", metavar="FILE", help="the numbers as JSON (default: none)")


# --- the other commands -----------------------------------------------------------------------------------------------


def _add_data(commands: Commands) -> None:
    """Add ``data`` with its commands."""
    names = "shapes | voc | get | coco | import | show | check | anchors"
    kinds = _add_group(commands, "data", "generate, download, convert, draw or check a data set", names)

    shapes = _add_command(
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

    voc = _add_command(
        kinds,
        "voc",
        "download Pascal VOC 2012",
        "  mrcnn-np data voc --download --root datasets",
    )
    voc.add_argument("--download", action="store_true", help="fetch it (2 GB); an interrupted download is continued")
    voc.add_argument("--root", default="datasets", metavar="DIR", help="VOCdevkit goes here (default: %(default)s)")

    _add_get(kinds)
    coco = _add_command(
        kinds,
        "coco",
        "write the ground truth of a split as COCO's instances JSON, for other tools",
        "  mrcnn-np data coco --data voc --split val --out instances_val.json",
    )
    _add_source(coco, split="train", default="shapes")
    coco.set_defaults(data="shapes", split="train")
    coco.add_argument("--out", required=True, metavar="FILE", help="the file to write")

    _add_import(kinds)
    show = _add_command(
        kinds,
        "show",
        "draw the first images of a split with their ground truth",
        "  mrcnn-np data show --data my-pictures --subset 4 --out looked-at\n"
        "  mrcnn-np data show --data my-pictures --augmented 3 --config quarter_turns=1",
    )
    _add_source(show, split="train", default="shapes", subset="8")
    show.set_defaults(data="shapes", split="train", subset=8)
    _add_val_fraction(show, "`train` would hold out if there is no split val: --split val shows it (default: 0)")
    show.add_argument(
        "--augmented", type=at_least(1), nargs="?", const=4, metavar="N",
        help="draw N ways (default: 4) in which training may see each image, too",
    )  # fmt: skip
    show.add_argument("--outlines", action="store_true", help="draw the masks' outlines and nothing else")
    show.add_argument("--preset", choices=tuple(PRESETS), help="whose augmentation (default: tiny)")
    show.add_argument(
        "--config",
        action="append",
        type=assignment,
        metavar="FIELD=VALUE",
        help="change a field of it: flip, crop, ...",
    )
    show.add_argument("--seed", type=at_least(0), default=0, help="of the augmentation (default: 0)")
    show.add_argument("--out", default="shown", metavar="DIR", help="pictures go here (default: %(default)s)")

    check = _add_command(
        kinds,
        "check",
        "read every image of a split, compare it with the other splits, and report what is in it and what is wrong "
        "(exit code 2 if anything is)",
        "  mrcnn-np data check --data voc --root VOCdevkit --split trainval --good-ids good.txt",
    )
    _add_source(check, split="train", default="shapes")
    check.set_defaults(data="shapes", split="train")
    _add_val_fraction(
        check, "`train` would hold out if there is no split val: the rest is compared with it (default: 0)"
    )
    check.add_argument("--preset", choices=tuple(PRESETS), help="for which objects may be too small (default: tiny)")
    check.add_argument("--size", type=at_least(1), metavar="PIXELS", help="image size (default: the preset's)")
    check.add_argument(
        "--good-ids", metavar="FILE", help="write the ids of the images without problems here, of copies the first"
    )
    check.add_argument(
        "--json", metavar="FILE", help="write the report here as JSON, with all images, objects and classes that each "
        "finding concerns",
    )  # fmt: skip
    _add_anchors(kinds)


def _add_anchors(kinds: Commands) -> None:
    """Add ``data anchors``."""
    command = _add_command(
        kinds,
        "anchors",
        "measure before training how anchors, proposals and mask size fit the objects, and suggest better ones",
        "  mrcnn-np data anchors --data my-pictures --preset small\n"
        "  mrcnn-np data anchors --run runs/voc --config 'anchor_sizes=[12, 24, 48, 96, 160]'",
    )
    _add_source(command, split="train", default="shapes, or that of the run")
    _add_val_fraction(
        command, "`train` would hold out if there is no split val, and that is left out here (default: 0)"
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("--preset", choices=tuple(PRESETS), help="network and conventions (default: tiny)")
    which.add_argument("--run", metavar="DIR", help="the configuration and the data of a training run")
    command.add_argument(
        "--config", action="append", type=assignment, metavar="FIELD=VALUE", help="change a field, as for train"
    )
    command.add_argument("--size", type=at_least(1), metavar="PIXELS", help="image size (default: the preset's)")
    command.add_argument(
        "--out", default="runs/anchors", metavar="DIR", help="anchors.json and anchors.png (default: %(default)s)"
    )


def _add_get(kinds: Commands) -> None:
    """Add ``data get``."""
    command = _add_command(
        kinds,
        "get",
        "download a small well-known data set, or go on with a download that was interrupted",
        "  mrcnn-np data get balloons            into datasets/balloon, 39 MB\n\n"
        "pennfudan   pedestrians, 170 photographs, 54 MB\n"
        "balloons    matterport's balloons, 74 photographs, 39 MB\n"
        "dsb2018     Data Science Bowl 2018, stage 1: nuclei, 670 images, 83 MB",
    )
    command.add_argument("name", metavar="NAME", help="pennfudan, balloons or dsb2018")
    command.add_argument(
        "--root", default="datasets", metavar="DIR", help="its folder goes here (default: %(default)s)"
    )
    command.add_argument("--url", metavar="URL", help="another place of the same zip")
    command.add_argument(
        "--checksum", metavar="KIND:DIGITS", help="refuse a zip that has not this one, md5:... or sha256:... (default: "
        "that of an earlier download, which is kept in ARCHIVE.sha256)",
    )  # fmt: skip


def _add_import(kinds: Commands) -> None:
    """Add ``data import``."""
    command = _add_command(
        kinds,
        "import",
        "write a data set of any format in COCO's, with copies of its pictures",
        "  mrcnn-np data import my-pictures --out my-pictures-coco\n"
        "  mrcnn-np data import nuclei.zip datasets/to-correct --out together",
    )
    command.add_argument(
        "path",
        metavar="PATH",
        nargs="+",
        help="a folder, a zip or a JSON, or a name of: %(formats)s; several become one set",
    )
    command.add_argument("--out", required=True, metavar="DIR", help="a folder that is new or empty")
    command.add_argument("--split", help="this split only (default: all)")
    command.add_argument("--skip-bad", action="store_true", help="leave out images and annotations that are broken")
    command.add_argument(
        "--crowds-as-objects",
        action="store_true",
        help="make objects of crowds: CVAT and others write every painted mask with iscrowd 1",
    )


def _add_bench(commands: Commands) -> None:
    """Add ``bench``."""
    command = _add_command(
        commands,
        "bench",
        "measure speed, errors and memory beside PyTorch and torchvision, where these are installed",
        "  mrcnn-np bench                                     everything, about half an hour on a quiet machine\n"
        "  mrcnn-np bench --only ops --match 'conv 3x3'\n"
        "  mrcnn-np bench --only timeline                     where the time of every layer goes",
    )
    command.add_argument(
        "--only",
        action="append",
        choices=("ops", "network", "scaling", "start", "busy", "presets", "timeline"),
        help="may be given several times; busy (beside another program), presets (each of them) and timeline (where "
        "the time of a detect and of a training step goes, layer by layer) only so",
    )
    command.add_argument(
        "--preset", choices=tuple(PRESETS), default="torchvision", help="of timeline (default: %(default)s)"
    )
    command.add_argument("--match", default="", metavar="TEXT", help="operations whose name contains this")
    command.add_argument("--repeat", type=at_least(1), metavar="N", help="rounds (default: 7; networks: at most 3)")
    command.add_argument("--threads", type=at_least(1), metavar="N", help="for everyone (default: 2, if there are 2)")
    command.add_argument(
        "--backend",
        choices=("cpu", "cuda"),
        help="cuda: our kernels on an NVIDIA GPU beside PyTorch's on the same (default: cpu)",
    )
    command.add_argument("--numpy", action="store_true", help="the numpy backend in the network table too (minutes)")
    command.add_argument("--without-torch", action="store_true", help="our own backends only")
    command.add_argument(
        "--quick", action="store_true", help="small sizes: tests that everything runs, measures nothing"
    )
    command.add_argument("--out", default="runs/bench", metavar="DIR", help="default: %(default)s")


def _add_compare(commands: Commands) -> None:
    """Add ``compare``."""
    command = _add_command(
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
    command.add_argument(
        "--with", dest="framework", choices=("torchvision", "keras"), default="torchvision", help="default: torchvision"
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("image", nargs="?", metavar="IMAGE", help="JPEG, PNG, ... (default: made-up noise)")
    which.add_argument("--random", type=size, metavar="HxW", help="noise of this size (default: 240x320)")
    command.add_argument("--weights", metavar="FILE", help="any file that `mrcnn-np weights` reads (default: random)")
    command.add_argument("--seed", type=at_least(0), default=0, help="of random weights, noise and draws (default: 0)")
    command.add_argument("--preset", choices=tuple(PRESETS), help="default: that of the framework, or of the weights")
    command.add_argument(
        "--config", action="append", type=assignment, metavar="FIELD=VALUE", help="change a field, on both sides"
    )
    command.add_argument(
        "--only-ours",
        action="append",
        type=assignment,
        metavar="FIELD=VALUE",
        help="change a field on our side only: what shows it?",
    )
    command.add_argument("--size", type=at_least(1), metavar="PIXELS", help="image size (default: the preset's)")
    command.add_argument("--dtype", choices=("float32", "float64"), help="default: float32")
    command.add_argument(
        "--tolerance",
        type=positive,
        metavar="T",
        help="relative error (default: 1e-4, in float64 1e-11)",
    )
    command.add_argument(
        "--teacher-forced",
        action="store_true",
        help="give our backbone the framework's molded image, our second stage its proposals and detections, so that "
        "tensors can be compared row by row whatever happens before",
    )
    command.add_argument(
        "--train-steps", type=at_least(1), metavar="N", help="compare N steps of training: losses and gradients"
    )
    command.add_argument(
        "--ops", action="store_true", help="compare every operation with PyTorch's, in both precisions"
    )
    command.add_argument("--out", default="runs/compare", metavar="DIR", help="default: %(default)s")


def _add_conventions(commands: Commands) -> None:
    """Add ``conventions``."""
    command = _add_command(
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
    which = _add_network(command, required=False)
    which.add_argument("--preset", choices=tuple(PRESETS), help="random weights of this preset (default: tiny)")
    command.add_argument(
        "--config", action="append", type=assignment, metavar="FIELD=VALUE", help="change the starting point"
    )
    command.add_argument("--only", action="append", metavar="FIELD", help="this field; may be given several times")
    command.add_argument(
        "--score", type=probability, default=0.3, metavar="S", help="leave out detections below (default: %(default)s)"
    )
    command.add_argument("--seed", type=at_least(0), default=5, help="of the generated image (default: %(default)s)")
    command.add_argument("--out", default="runs/conventions", metavar="DIR", help="default: %(default)s")
    command.add_argument("--rewrite", metavar="PAGE", help="put tables and pictures into a page of Markdown, too")
    command.add_argument("--list", action="store_true", help="print the table of all fields as Markdown, and stop")


def _add_weights(commands: Commands) -> None:
    """Add ``weights`` with its three kinds."""
    summary = "look into, convert or download weights of torchvision, detectron2 and matterport"
    kinds = _add_group(commands, "weights", summary, "info | convert | download")

    info = _add_command(
        kinds,
        "info",
        "print what a file holds, and the conventions that belong to it; nothing in it is executed",
        "  mrcnn-np weights info maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
    )
    info.add_argument(
        "file", metavar="FILE", help="of torch.save, safetensors, detectron2 (.pkl), Keras (.h5) ..., or a run's folder"
    )
    _add_conventions_of_weights(info)

    convert = _add_command(
        kinds,
        "convert",
        "write weights of any kind as safetensors with their conventions, as torchvision's state_dict, or the network "
        "as ONNX",
        "  mrcnn-np weights convert model_final_f10217.pkl mask_rcnn_R_50_FPN.safetensors\n"
        "  mrcnn-np weights convert finetuned.safetensors for_torchvision.pth\n"
        "  mrcnn-np weights convert runs/shapes-tiny shapes.onnx --config detection_score_threshold=0.5",
    )
    convert.add_argument("source", metavar="IN", help="a file of weights, or the folder of a run")
    convert.add_argument("target", metavar="OUT", help="replaced if it exists")
    convert.add_argument("--to", choices=("safetensors", "torchvision", "onnx"), help="default: by the ending of OUT")
    convert.add_argument(
        "--part",
        choices=("whole", "first_stage", "box_head", "mask_head", "keypoint_head"),
        help="what of the network becomes ONNX: all, from an image to its masks (whole, the default), or one of the "
        "pieces without proposals and suppression, whose outputs are raw",
    )
    _add_conventions_of_weights(convert)

    download = _add_command(
        kinds,
        "download",
        "fetch published weights, check them where a checksum is published, and print their sha256",
        "  mrcnn-np weights download                          the names\n"
        "  mrcnn-np weights download maskrcnn_resnet50_fpn --root weights",
    )
    download.add_argument("name", nargs="?", metavar="NAME", help="without it: list the names")
    download.add_argument("--root", default="weights", metavar="DIR", help="default: %(default)s")


def _add_warmup(commands: Commands) -> None:
    """Add ``warmup``."""
    command = _add_command(
        commands,
        "warmup",
        "compile ahead what training, detection and explain need, which else the first run waits for",
        "  mrcnn-np warmup --preset tiny",
    )
    command.add_argument("--preset", choices=tuple(PRESETS), default="tiny", help="default: %(default)s")
