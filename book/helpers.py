"""What every chapter uses, and nothing of Mask R-CNN: the one image, the one network, the ledger, figures, explorables.

Everything that is explained comes from the package and is shown with its source.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import multiprocessing
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from exercises import check as check
from IPython.display import HTML, Image, Markdown, display
from matplotlib.figure import Figure
from PIL import Image as Pillow
from safetensors.numpy import load_file, save

import kernels
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.config import Config
from mrcnn_np.data import SHAPES_CLASSES, VOC_CLASSES, Sample, generate, open_dataset
from mrcnn_np.files import atomic_write
from mrcnn_np.molding import make_batch
from mrcnn_np.training.loop import train_step
from mrcnn_np.training.optim import zero_velocity

BOOK = Path(__file__).resolve().parent
DATA = BOOK / "_data"
NETWORK = BOOK / "network.safetensors"  # 2.4 MB, float16
#: blue, orange, green, purple, yellow, sky: told apart by colour-blind readers (Okabe and Ito)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

IMAGE = 25  # of the held-out shapes: five objects of three classes, small and large, one on top of another
IMAGES = 96  # to train on, where a chapter trains something
TRAINED_ON, STEPS = 600, 1600  # pictures and steps of the network of the book: three and a half minutes on two cores


# --- the one image and the one network ------------------------------------------------------------------------------


def scene(*, voc: bool = False) -> Sample:
    """Return the image of the book with its ground truth; with ``voc`` the first of VOC's val split (VOC_ROOT)."""
    if voc:
        return open_dataset("voc", os.environ.get("VOC_ROOT"), "val").load(0)
    return open_dataset("shapes", _shapes(), "val").load(IMAGE)


def class_names(*, voc: bool = False) -> tuple[str, ...]:
    """Return the names of the classes of ``scene``; 0 is the background."""
    return VOC_CLASSES if voc else SHAPES_CLASSES


def network() -> MaskRCNN:
    """Return the small network of the book.

    It was trained for three and a half minutes. Of 100 held-out pictures it finds most objects (mask AP50 0.84) and
    misses some, and both are worth a look. ``train_network`` is how. Its weights stand in a file because 1600 steps
    multiply what differs in the last digit from processor to processor: trained again it would be another network, with
    other numbers in the chapters.
    """
    weights = {name: p.astype(np.float32) for name, p in load_file(NETWORK).items()}
    return MaskRCNN(_config(), weights)


def train_network() -> MaskRCNN:
    """Train the network of the book, and write it in float16: ``python book/helpers.py``."""
    config = _config()
    dataset = open_dataset("shapes", generate(DATA / "training", train=TRAINED_ON, val=1), "train")
    samples = [dataset.load(i) for i in range(len(dataset))]
    model = MaskRCNN(config, rng=np.random.default_rng(0))
    velocity = zero_velocity(model.params, config)
    order = np.random.default_rng(0)
    for step in range(STEPS):
        chosen = order.choice(len(samples), config.batch_size, replace=False)
        batch = make_batch([samples[i] for i in chosen], config)
        train_step(model, batch, velocity, step=step, rng=np.random.default_rng(step))
    atomic_write(NETWORK, save({name: p.astype(np.float16) for name, p in model.params.items()}))
    return model


def _config() -> Config:
    return presets.tiny(len(SHAPES_CLASSES)).replace(steps=STEPS, warmup_steps=20)


def _shapes() -> Path:
    return generate(DATA / "shapes", train=IMAGES, val=IMAGE + 1)


# --- source, ledger -------------------------------------------------------------------------------------------------


def source(function: Any, *, docstring: bool = False) -> Markdown:
    """Show the source of a function of the package; of an accelerated one the NumPy body. Without its docstring."""
    body = inspect.unwrap(getattr(function, "reference", function))
    lines = textwrap.dedent(inspect.getsource(body)).splitlines()
    text = "\n".join(line for line in lines if not line.startswith("@"))
    if not docstring and body.__doc__:
        start = text.index('"""')
        start -= 1 if text[start - 1] == "r" else 0
        stop = text.index('"""', start + 4) + 3
        text = text[:start].rstrip() + text[stop:]
    where = Path(inspect.getfile(body)).resolve().relative_to(BOOK.parent).as_posix()
    return Markdown(f"`{where}`\n\n```python\n{text}\n```")


class Ledger:
    """The shapes that pass through a chapter, with their smallest and largest number.

    ``ledger.expect("p2", p2, (1, 32, 32, 48))`` asserts the shape and writes the row down; ``ledger.show()`` prints.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, str]] = []

    def expect(self, name: str, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Assert a shape and that all numbers are finite; write a row; return the tensor."""
        assert tensor.shape == shape, f"{name} has shape {tensor.shape}; expected {shape}"
        assert np.isfinite(tensor).all(), f"{name} holds NaN or infinity"
        low, high = (f"{tensor.min():.3g}", f"{tensor.max():.3g}") if tensor.size else ("-", "-")
        self.rows.append((name, " x ".join(map(str, shape)) or "one number", low, high))
        return tensor

    def show(self) -> None:
        """Print the ledger."""
        rows = [("tensor", "shape", "min", "max"), *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        for row in rows:
            cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
            print("  ".join(cells).rstrip())


def close(name: str, ours: Any, theirs: Any, *, tolerance: float = 1e-12) -> None:
    """Print the largest difference of two results relative to the largest number, and assert that it is small."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert a.shape == b.shape, f"{name}: shapes {a.shape} and {b.shape}"
    scale = max(float(np.abs(b).max(initial=0)), 1e-300)
    error = float(np.abs(a - b).max(initial=0)) / scale
    assert error <= tolerance, f"{name}: they differ by {error:.1e}; expected at most {tolerance:.0e}"
    print(f"{name}: equal to within {tolerance:.0e}" if tolerance else f"{name}: equal")


# --- the four texts of an operation ---------------------------------------------------------------------------------


def on_both(function: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, Any]:
    """Call a function of the package on the compiled kernels and on those of CUDA, in float32, however small its input.

    Parameters
    ----------
    function : callable
        At home in a module: the other process finds it by its name.
    *args, **options
        Its arguments; arrays of float64 become float32, also those in tuples (caches), lists and dicts.

    Returns
    -------
    compiled, on_card
        What it returned on the backend ``cpu``, and from ``simulated``.
    """
    args, options = _single(args), _single(options)
    on_card = simulated(function, *args, **options)  # first: a function that changes its arguments changes them here
    with kernels.use("cpu"), contextlib.ExitStack() as limits:
        for module in [module for name, module in sys.modules.items() if name.startswith("kernels.cpu.")]:
            for limit in [name for name in vars(module) if name.startswith("SMALL")]:  # below, NumPy is faster
                limits.enter_context(mock.patch.object(module, limit, 0))
        return _by_kernels("cpu", function, args, options), on_card


def simulated(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what a function of the package returns on the backend ``cuda``, run by Numba's simulator in float32."""
    return _simulator().submit(_by_kernels, "cuda", function, _single(args), _single(options)).result()


def _by_kernels(backend: str, function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Call a function on a backend, and insist that a kernel answers: NumPy's body would prove nothing."""
    answers = []

    def noted(kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            answers.append(kernel(*args, **options))
            return answers[-1]

        return call

    with kernels.use(backend):
        table = kernels._kernels(backend)
        with mock.patch.dict(table, {name: noted(kernel) for name, kernel in table.items()}):
            result = kernels.to_host(function(*args, **options))
    refused = all(answer is NotImplemented for answer in answers)
    assert not refused, f"{function.__name__}: no kernel of the backend {backend} takes these arguments"
    return result


@functools.cache
def _simulator() -> ProcessPoolExecutor:
    """Start the process that simulates; this one cannot, since Numba reads the variable when it is imported."""
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _stay_with_the_notebook)
    with mock.patch.dict(os.environ, NUMBA_ENABLE_CUDASIM="1"):
        pool.submit(int).result()
    return pool


def _stay_with_the_notebook() -> None:
    """In the other process: end when the notebook's is killed, and not when one cell of it is interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    notebook: Any = multiprocessing.parent_process()
    threading.Thread(target=lambda: (notebook.join(), os._exit(0)), daemon=True).start()


def kernel_source(name: str) -> Markdown:
    """Show the source of a kernel of CUDA, without its docstring, by the name under which it is launched."""
    return _simulator().submit(_text_of_kernel, name).result()


def _text_of_kernel(name: str) -> Markdown:
    """In the other process: Numba's CUDA need not be installed for the simulator."""
    from kernels.cuda.machine.device import REGISTRY

    with kernels.use("cuda"):  # all kernels are known now
        return source(REGISTRY[name])


def _single(tree: Any) -> Any:
    if isinstance(tree, np.ndarray):
        return tree.astype(np.float32) if tree.dtype == np.float64 else tree
    if isinstance(tree, np.dtype):  # a cache may remember it
        return np.dtype(np.float32) if tree == np.float64 else tree
    if isinstance(tree, dict):
        return {key: _single(value) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [_single(part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


# --- figures and explorables ----------------------------------------------------------------------------------------


def show(figure: Figure) -> None:
    """Show a figure as a PNG of few colours; its text for those who cannot see it stands in the cell's metadata."""
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=100)
    picture = Pillow.open(raw).convert("RGB").quantize(192, dither=Pillow.Dither.NONE)
    small = io.BytesIO()
    picture.save(small, format="png", optimize=True)
    display(Image(small.getvalue()))


def explorable(name: str, **data: Any) -> HTML:
    """Return a live picture: shared script, arithmetic and view in one piece, so that nothing is fetched.

    Parameters
    ----------
    name : str
        ``_static/NAME.math.js`` holds the arithmetic, which tests compare with NumPy, ``_static/NAME.js`` the view.
    **data
        Numbers that the view starts from; arrays become lists.
    """
    static = BOOK / "_static"
    scripts = [(static / file).read_text() for file in ("explorable.js", f"{name}.math.js", f"{name}.js")]
    values = json.dumps(data, default=lambda a: np.asarray(a).round(6).tolist())
    return HTML(
        f'<div class="explorable" id="explorable-{name}"></div>\n<script>\n(() => {{\nconst module = {{}};\n'
        + "\n".join(scripts)
        + f'\nview(document.getElementById("explorable-{name}"), {values});\n}})();\n</script>'
    )


def seconds(function: Callable[[], Any], *, repeat: int = 3) -> float:
    """Return the shortest of a few timings of ``function()``; a chapter prints only how many times faster, rounded."""
    import time

    best = np.inf
    for _ in range(repeat):
        began = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - began)
    return float(best)


if __name__ == "__main__":
    train_network()
