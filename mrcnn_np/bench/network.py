"""Whole networks: inference, a training step, how they scale, and how long they take to start."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .quiet import Watch, mark, together
from .team import compete, environment
from .timing import in_mib

Say = Callable[[str], None]
FULL = (800, 1088)
TARGETS = {"detect": 2.5, "train": 2.0}


def make_weights(preset: str, folder: Path) -> str:
    """Write random weights that detect to a file, in another process: its memory is not to be counted."""
    path = folder / f"{preset}.safetensors"
    code = (
        "import sys\n"
        "from safetensors.numpy import save_file\n"
        "from mrcnn_np import presets\n"
        "from mrcnn_np.synthetic import params_that_detect\n"
        "save_file(params_that_detect(presets.by_name(sys.argv[1])), sys.argv[2])\n"
    )
    if not path.exists():
        subprocess.run([sys.executable, "-c", code, preset, str(path)], check=True)
    return str(path)


def run_network(
    folder: Path,
    *,
    repeat: int,
    threads: int,
    frameworks: bool,
    numpy: bool,
    quick: bool,
    watch: Watch,
    say: Say = print,
) -> dict[str, Any]:
    """Measure ``detect`` and a training step of the preset torchvision on one image.

    Parameters
    ----------
    folder : Path
        For the weights.
    repeat : int
        Rounds for each row.
    threads : int
        For everyone.
    frameworks : bool
        Include torchvision.
    numpy : bool
        Include our numpy backend, which is slow: one round.
    quick : bool
        A small image.
    watch : Watch
        Says whether the machine was quiet.
    say : callable
        Gets a line for each finished row.

    Returns
    -------
    dict
        ``rows``.
    """
    size = (96, 128) if quick else FULL
    contenders = ["cpu"] + ["numpy"] * numpy + (["torch"] if quick else ["torch", "torch channels_last"]) * frameworks
    task = {"preset": "torchvision", "size": size, "batch": 1, "threads": threads}
    task["weights"] = make_weights("torchvision", folder)
    rows = []
    for what in ("detect", "train"):
        rows.append(_measure(contenders, {**task, "what": what}, repeat, watch, say, limits={"numpy": 1}))
        rows[-1]["target"] = TARGETS[what]
    return {"rows": rows}


def run_scaling(
    folder: Path, *, repeat: int, threads: int, frameworks: bool, quick: bool, watch: Watch, say: Say = print
) -> dict[str, Any]:
    """Measure how time grows with the image, the batch and the number of threads.

    Parameters
    ----------
    folder : Path
        For the weights.
    repeat : int
        Rounds for each row.
    threads : int
        For everyone, and beside one.
    frameworks : bool
        Include torchvision.
    quick : bool
        Small images.
    watch : Watch
        Says whether the machine was quiet.
    say : callable
        Gets a line for each finished row.

    Returns
    -------
    dict
        ``area``, ``threads``, ``batch``: rows; ``speedup`` by contender from one thread to all, and whether the
        machine was ``quiet`` for it.
    """
    result: dict[str, Any] = {"area": [], "batch": [], "threads": []}
    task = {"preset": "torchvision", "batch": 1, "what": "detect", "threads": threads}
    task["weights"] = make_weights("torchvision", folder)
    contenders = ["cpu"] + ["torch", "torch channels_last"] * frameworks
    sizes = ((48, 64), (96, 128)) if quick else ((200, 272), (400, 544), FULL)
    for size in sizes:
        result["area"].append(_measure(contenders, {**task, "size": size}, repeat, watch, say))
    for count in sorted({1, threads}):
        if count == threads:  # just measured
            result["threads"].append(result["area"][-1])
        else:
            one = {**task, "size": sizes[-1], "threads": count}
            result["threads"].append(_measure(contenders, one, repeat, watch, say))
    task = {"preset": "tiny", "size": (128, 128), "what": "train", "threads": threads}
    task["weights"] = make_weights("tiny", folder)
    for images in (1, 2, 4):
        result["batch"].append(_measure(["cpu", "numpy"], {**task, "batch": images}, repeat, watch, say))
    first, last = result["threads"][0], result["threads"][-1]
    result["speedup"] = {name: first["median"][name] / last["median"][name] for name in first["median"]}
    result["quiet"] = together((first, last))
    return result


def run_start(
    folder: Path, *, repeat: int, threads: int, quick: bool, watch: Watch, say: Say = print
) -> dict[str, Any]:
    """Measure the step of ``make train``, the first start, which compiles, and those that follow.

    Parameters
    ----------
    folder : Path
        For the weights.
    repeat : int
        Rounds of the step.
    threads : int
    quick : bool
        Leaves the first start out: it compiles everything, which is what tests have no time for.
    watch : Watch
        Says whether the machine was quiet.
    say : callable
        Gets a line for each finished row.

    Returns
    -------
    dict
        ``step``, a row; ``cold_seconds``, None if it was left out; ``warm_seconds`` of every start after it; whether
        the machine was ``quiet`` for the two.
    """
    weights = make_weights("tiny", folder)
    task = {"preset": "tiny", "size": (128, 128), "batch": 2 if quick else 8, "what": "train", "threads": threads}
    step = _measure(["cpu", "numpy"], {**task, "weights": weights}, 1 if quick else max(repeat, 9), watch, say)
    step["numpy_over_cpu"] = step["median"]["numpy"] / step["median"]["cpu"]
    say(f"training step of tiny, numpy / cpu {step['numpy_over_cpu']:.2f}")
    (starts,) = watch.around("the starts", lambda: [_starts(weights, threads, quick, say)])
    return {"step": step, **starts}


def _measure(
    contenders: Sequence[str],
    task: dict[str, Any],
    repeat: int,
    watch: Watch,
    say: Say,
    limits: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Let contenders take turns at one task, again if the machine was not quiet, and say what came out.

    Parameters
    ----------
    contenders : sequence of str
    task : dict
    repeat : int
        Rounds.
    watch : Watch
    say : callable
    limits : mapping of str to int, optional
        Fewer rounds for some.
    """
    (record,) = watch.around(_name(task), lambda: [compete(contenders, task, repeat=repeat, limits=limits)])
    say(describe(record))
    return record


def _starts(weights: str, threads: int, quick: bool, say: Say) -> dict[str, Any]:
    """Start until the first detection: once with nothing compiled, then with everything.

    Parameters
    ----------
    weights : str
        Path of the weights of tiny.
    threads : int
    quick : bool
        Leave the first start out.
    say : callable
    """
    variables, cold = environment(threads), None
    with tempfile.TemporaryDirectory() as compiled:
        if not quick:
            variables["NUMBA_CACHE_DIR"] = compiled
            say("first start, compiling what train and detect need ...")
            cold = _wall([sys.executable, "-m", "mrcnn_np", "warmup", "--preset", "tiny"], variables)
            say(f"first start: {cold:.1f} s")
        first = [sys.executable, "-m", "mrcnn_np.bench.first_detection", weights]
        warm = [_wall(first, variables) for _ in range(1 if quick else 5)]
    say("start to first detection: " + ", ".join(f"{s:.2f}" for s in warm) + " s")
    return {"cold_seconds": cold, "warm_seconds": warm}


def _wall(command: list[str], variables: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, env=variables, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def describe(record: dict[str, Any]) -> str:
    """Return one line about a row."""
    times = "; ".join(
        f"{name} {value:.3f} s, memory {in_mib(record['peak_mib'][name], ' MiB')}"
        for name, value in record["median"].items()
    )
    ratio = f", ratio {record['ratio']:.2f}" if record["ratio"] else ""
    return f"{_name(record)}: {times}{ratio}{mark(record)}"


def _name(task: Mapping[str, Any]) -> str:
    height, width = task["size"]
    return f"{task['preset']} {task['what']} {task['batch']} x {height}x{width}, {task['threads']} threads"
