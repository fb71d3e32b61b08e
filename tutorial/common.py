"""What all lessons share: the one image, the network, the options of the command line, and small drawing helpers.

Nothing here is part of Mask R-CNN. A lesson begins with ``lesson = start(__doc__)`` and then reads from top to bottom.

``naive``, ``naive_boxes``, ``naive_roi`` and ``naive_metrics`` are the plain loops of ``tests/oracles``: the same
operations one number at a time, for reading. ``code`` prints a function as it stands in its file.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
import textwrap
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrcnn_np import presets
from mrcnn_np.boxes import iou
from mrcnn_np.config import Config
from mrcnn_np.data import SHAPES_CLASSES, VOC_CLASSES, Sample, generate, open_dataset, read_image
from mrcnn_np.data.sample import without_objects
from mrcnn_np.errors import UserError
from mrcnn_np.model import MaskRCNN
from mrcnn_np.molding import Batch, make_batch
from mrcnn_np.pictures.canvas import LINE_PALETTE, PALETTE, add_box, show_image
from mrcnn_np.pictures.canvas import save as save_png
from mrcnn_np.tables import text_table
from mrcnn_np.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mrcnn_np.training.loop import train_step
from mrcnn_np.training.optim import zero_velocity

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "oracles"))
import naive
import naive_boxes
import naive_metrics
import naive_roi

__all__ = [
    "LINE_PALETTE",
    "PALETTE",
    "Lesson",
    "add_box",
    "code",
    "glow",
    "grid",
    "heat",
    "listed",
    "naive",
    "naive_boxes",
    "naive_metrics",
    "naive_roi",
    "outline",
    "say",
    "show_image",
    "start",
    "table",
]

SHAPES_IMAGE = 25  # of the held-out split: five objects of three classes, small and large, one on top of another
VOC_IMAGE = 0


class Lesson:
    """The options of one script, and what follows from them: the sample, the network, where pictures go."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.name = Path(sys.argv[0]).stem
        self.out = Path(options.out)
        self.pictures: list[Path] = []

    @cached_property
    def dataset(self) -> Any:
        """The held-out split that the image comes from: generated shapes, or VOC; None for a file of your own."""
        if self.options.image:
            return None
        if self.options.voc:
            return open_dataset("voc", None, "val")
        return open_dataset("shapes", generate(self.out / "shapes", train=1, val=SHAPES_IMAGE + 1), "val")

    @cached_property
    def sample(self) -> Sample:
        """The image of all lessons with its ground truth (a file of your own has none)."""
        if self.dataset is None:
            path = self.options.image
            return without_objects(read_image(path), Path(path).stem, path)
        return self.dataset.load(VOC_IMAGE if self.options.voc else SHAPES_IMAGE)

    @cached_property
    def checkpoint(self) -> Checkpoint | None:
        """The trained run, if there is one."""
        path = Path(self.options.run) / "checkpoint.safetensors"
        return load_checkpoint(path) if path.is_file() else None

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names by class id; 0 is the background."""
        names = VOC_CLASSES if self.options.voc else SHAPES_CLASSES
        if self.checkpoint is None:
            return names
        if len(self.sample.gt_boxes) and self.checkpoint.class_names != names:
            raise UserError(f"{self.options.run} was trained on other classes than those of this image; use --run")
        return self.checkpoint.class_names

    @cached_property
    def config(self) -> Config:
        """The configuration of the trained run, or a preset, with the changes of --config."""
        config = presets.small(len(VOC_CLASSES)) if self.options.voc else presets.tiny(len(SHAPES_CLASSES))
        config = config if self.checkpoint is None else self.checkpoint.config
        return config.with_overrides(self.options.config)

    @cached_property
    def batch(self) -> Batch:
        """The sample, molded: a batch of one."""
        return make_batch([self.sample], self.config)

    @cached_property
    def canvas(self) -> np.ndarray:
        """The molded image with its colours back, uint8, to draw boxes in molded pixels on."""
        return displayed(self.batch.images[0], self.config)

    @cached_property
    def model(self) -> MaskRCNN:
        """The network, and a sentence on where it comes from."""
        if self.checkpoint is not None:
            say(f"Network: {self.options.run}, trained for {self.checkpoint.step} steps.")
            return MaskRCNN(self.config, self.checkpoint.params)
        if not len(self.sample.gt_boxes):
            say(f"Network: fresh weights, because there is no trained run in {self.options.run}. Expect noise.")
            return MaskRCNN(self.config)
        return self._trained_on_this_image()

    def _trained_on_this_image(self) -> MaskRCNN:
        """Train on the one image, so that the lessons show something without a trained run; done once and kept."""
        steps, path = self.options.steps, self.out / "one-image.safetensors"
        config = self.config.replace(steps=steps, warmup_steps=min(10, steps), batch_size=1)
        purpose = f"{self.sample.image_id}, {steps} steps"
        say(
            f"Network: no trained run in {self.options.run}, so it is trained for {steps} steps on this image alone. "
            "It knows the image by heart and nothing else; `make train` gives a better one."
        )
        if path.is_file():
            kept = load_checkpoint(path)
            if kept.config == config and kept.images == purpose:
                return MaskRCNN(self.config, kept.params)
        model = MaskRCNN(config, rng=np.random.default_rng(0))
        velocity = zero_velocity(model.params, config)
        for step in range(steps):
            train_step(model, self.batch, velocity, step=step, rng=np.random.default_rng(step))
        save_checkpoint(path, Checkpoint(steps, 0, config, self.class_names, model.params, velocity, purpose))
        return MaskRCNN(self.config, model.params)

    def enlarged(self, factor: int) -> tuple[Batch, Config]:
        """Return the sample molded to sides ``factor`` times as long, and the configuration that does it.

        Maps of the small canvas have a handful of cells; these are for looking at.
        """
        sides = {name: factor * getattr(self.config, name) for name in ("image_min_size", "image_max_size")}
        config = self.config.replace(**sides)
        return make_batch([self.sample], config), config

    @cached_property
    def draw(self) -> int:
        """A seed under which every object has a region that carries its losses, if one of the first 50 does that.

        A training step draws some of the proposals, and a large object may go without; over many steps all have
        their turn. Lessons 8 and 9 look at one step, so they look at one that holds them all.
        """
        truth, most = self.batch.gt_boxes[0], (-1, 0)
        for seed in range(50):
            _, cache = self.model.losses(self.batch, np.random.default_rng(seed))
            rois = cache.targets.rois[cache.targets.class_ids > 0]
            covered = len(set(iou(rois, truth).argmax(axis=1))) if len(truth) and len(rois) else 0
            most = max(most, (covered, -seed))
            if covered == len(truth):
                break
        return -most[1]

    @cached_property
    def anchors(self) -> list[np.ndarray]:
        """The anchors of P2 .. P6 over the canvas; lesson 4 looks at them."""
        height, width = self.batch.images.shape[1:3]
        maps = [np.empty((1, -(-height // s), -(-width // s), 0)) for s in self.config.anchor_strides]
        return MaskRCNN(self.config).anchors((height, width), maps)  # they depend on the configuration alone

    def path(self, name: str) -> Path:
        """Return where a picture of this lesson goes; ``finish`` lists it."""
        path = self.out / f"{self.name[:2]}_{name}.png"
        self.pictures.append(path)
        return path

    def save(self, figure: Figure, name: str) -> None:
        """Save a picture of this lesson."""
        save_png(figure, self.path(name))

    def finish(self, *answers: str) -> None:
        """Print the answers to the questions at the top, and where the pictures are."""
        print("\nAnswers")
        for number, answer in enumerate(answers, start=1):
            say(f"{number}. {answer}", hang=3)
        print("\nPictures")
        for path in self.pictures:
            print(f"  {path}")


def start(doc: str | None) -> Lesson:
    """Read the command line and print the lesson's introduction with its questions."""
    introduction = (doc or "").strip()
    parser = argparse.ArgumentParser(description=introduction.splitlines()[0])
    parser.add_argument("image", nargs="?", help="a picture of your own (default: a generated one with ground truth)")
    parser.add_argument("--voc", action="store_true", help="the first image of VOC's val split; VOC_ROOT says where")
    parser.add_argument("--run", help="a training run to take the network from (default: runs/shapes-tiny, runs/voc)")
    parser.add_argument("--out", default="runs/tutorial", help="folder for the pictures (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=80, help="without a run: steps on this image (default: 80)")
    parser.add_argument("--config", action="append", default=[], metavar="FIELD=VALUE", help="change the configuration")
    options = parser.parse_args()
    options.run = options.run or ("runs/voc" if options.voc else "runs/shapes-tiny")
    sys.excepthook = _short_errors
    print(introduction, end="\n\n" + "-" * 100 + "\n")
    return Lesson(options)


def _short_errors(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Print an error that the reader can cause as one line, all others in full."""
    if issubclass(kind, UserError):
        print(f"error: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# --- text -----------------------------------------------------------------------------------------------------------


def say(text: str, *, hang: int = 0) -> None:
    """Print a paragraph; a line break at its beginning makes an empty line."""
    print(end="\n" if text.startswith("\n") else "")
    print(textwrap.fill(" ".join(text.split()), 100, subsequent_indent=" " * hang))


def code(function: Callable[..., Any]) -> None:
    """Print a function as it stands in its file, without decorators and docstring."""
    function = getattr(function, "reference", function)  # the NumPy body of one that has a kernel
    source = textwrap.dedent(inspect.getsource(function))
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    lines, first = source.splitlines(), node.lineno
    described = ast.get_docstring(node) is not None
    after = node.body[1].lineno if described else node.body[0].lineno
    head = lines[first - 1 : node.body[0].lineno - 1]
    print(f"  # {Path(inspect.getsourcefile(function) or '').resolve().relative_to(ROOT)}")
    print(textwrap.indent("\n".join([*head, *lines[after - 1 :]]), "  "), end="\n\n")


def listed(values: np.ndarray, digits: int = 2) -> str:
    """Write a few numbers as ``(1.00, -0.25)``."""
    return "(" + ", ".join(f"{float(v):.{digits}f}" for v in np.ravel(values)) + ")"


def table(header: list[str], rows: list[list[Any]]) -> None:
    """Print rows under their headings: the first column to the left, the others to the right."""
    print(text_table(header, [[str(cell) for cell in row] for row in rows], align="<>", indent="  "))


# --- pictures -------------------------------------------------------------------------------------------------------


def displayed(molded: np.ndarray, config: Config) -> np.ndarray:
    """Undo the normalisation of colours: a molded image (H, W, 3) as uint8 RGB."""
    pixels = (molded * np.array(config.pixel_std) + np.array(config.pixel_mean)) * config.pixel_scale
    pixels = pixels[..., ::-1] if config.channel_order == "bgr" else pixels
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def grid(rows: int, columns: int, *, size: float = 2.6, title: str = "") -> tuple[Figure, np.ndarray]:
    """Return a figure with rows x columns panels of ``size`` inches, and the panels as an array of that shape."""
    figure = Figure(figsize=(size * columns, size * rows + 0.3 * rows + 0.4), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure, figure.subplots(rows, columns, squeeze=False)


def heat(ax: Axes, values: np.ndarray, title: str, *, limits: tuple[float, float] | None = None, **style: Any) -> Any:
    """Draw a map of numbers, one square per cell, without ticks; returns the image for a colour bar."""
    low, high = limits or (None, None)
    drawn = ax.imshow(values, vmin=low, vmax=high, **{"cmap": "cividis", "interpolation": "nearest", **style})
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=9)
    return drawn


def glow(ax: Axes, image: np.ndarray, values: np.ndarray, title: str) -> None:
    """Lay a map of numbers over the grey image, the larger the brighter, cell by cell."""
    height, width = image.shape[:2]
    ax.imshow(image.mean(axis=-1), cmap="gray", vmin=-60, vmax=255, extent=(0, width, height, 0))
    low, high = float(values.min()), float(values.max())
    strength = (values - low) / (high - low or 1.0)
    ax.imshow(strength, cmap="inferno", vmin=0, vmax=1, alpha=np.clip(strength, 0, 0.8), extent=(0, width, height, 0))
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=9)


def outline(ax: Axes, mask: np.ndarray, colour: str, *, width: float = 1.6, dash: str = "solid") -> None:
    """Draw the edge of a mask (H, W) and leave what is inside to be seen."""
    padded = np.pad(mask.astype(float), 1)
    y, x = (np.arange(side) - 0.5 for side in padded.shape)
    if mask.any():
        ax.contour(x, y, padded, levels=[0.5], colors="black", linewidths=width + 1.4, linestyles=dash)
        ax.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=width, linestyles=dash)
