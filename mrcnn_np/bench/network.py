"""Whole networks: inference, a training step, how they scale, and how long they take to start."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .team import compete, environment

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
    folder: Path, *, repeat: int, threads: int, frameworks: bool, numpy: bool, quick: bool, say: Say = print
) -> dict[str, Any]:
    """Measure ``detect`` and a training step of the preset torchvision on one image.

    ``numpy`` includes our numpy backend, which is slow: one round.
    """
    size = (96, 128) if quick else FULL
    contenders = ["cpu"] + ["numpy"] * numpy + (["torch"] if quick else ["torch", "torch channels_last"]) * frameworks
    weights = make_weights("torchvision", folder)
    rows = []
    for what in ("detect", "train"):
        task = {"preset": "torchvision", "size": size, "batch": 1, "what": what}
        task |= {"threads": threads, "weights": weights}
        record = compete(contenders, task, repeat=repeat, limits={"numpy": 1})
        record["target"] = TARGETS[what]
        rows.append(record)
        say(describe(record))
    return {"rows": rows}


def run_scaling(folder: Path, *, repeat: int, threads: int, frameworks: bool, quick: bool, say: Say = print) -> Any:
    """Measure how time grows with the image, the batch and the number of threads."""
    result: dict[str, Any] = {"area": [], "batch": [], "threads": []}
    weights = make_weights("torchvision", folder)
    base = {"preset": "torchvision", "batch": 1, "what": "detect", "threads": threads, "weights": weights}
    contenders = ["cpu"] + ["torch", "torch channels_last"] * frameworks
    sizes = ((48, 64), (96, 128)) if quick else ((200, 272), (400, 544), FULL)
    for size in sizes:
        result["area"].append(compete(contenders, {**base, "size": size}, repeat=repeat))
        say(describe(result["area"][-1]))
    for count in sorted({1, threads}):
        if count == threads:  # just measured
            result["threads"].append(result["area"][-1])
        else:
            task = {**base, "size": sizes[-1], "threads": count}
            result["threads"].append(compete(contenders, task, repeat=repeat))
            say(describe(result["threads"][-1]))
    weights = make_weights("tiny", folder)
    for images in (1, 2, 4):
        task = {"preset": "tiny", "size": (128, 128), "batch": images, "what": "train"}
        task |= {"threads": threads, "weights": weights}
        result["batch"].append(compete(["cpu", "numpy"], task, repeat=repeat))
        say(describe(result["batch"][-1]))
    one, many = result["threads"][0], result["threads"][-1]
    result["speedup"] = {name: one["median"][name] / many["median"][name] for name in one["median"]}
    return result


def run_start(folder: Path, *, repeat: int, threads: int, quick: bool, say: Say = print) -> dict[str, Any]:
    """Measure the step of ``make train``, the first start, which compiles, and those that follow.

    ``quick`` leaves the first start out: it compiles everything, which is what tests have no time for.
    """
    task = {"preset": "tiny", "size": (128, 128), "batch": 2 if quick else 8, "what": "train", "threads": threads}
    weights = make_weights("tiny", folder)
    task["weights"] = weights
    step = compete(["cpu", "numpy"], task, repeat=1 if quick else max(repeat, 9))
    step["numpy_over_cpu"] = step["median"]["numpy"] / step["median"]["cpu"]
    say(f"{describe(step)}, numpy / cpu {step['numpy_over_cpu']:.2f}")
    result: dict[str, Any] = {"step": step, "cold_seconds": None}
    variables = environment(threads)
    with tempfile.TemporaryDirectory() as compiled:
        if not quick:
            variables["NUMBA_CACHE_DIR"] = compiled
            say("first start, compiling what train and detect need ...")
            result["cold_seconds"] = _wall([*_PYTHON, "warmup", "--preset", "tiny"], variables)
            say(f"first start: {result['cold_seconds']:.1f} s")
        first = [sys.executable, "-m", "mrcnn_np.bench.first_detection", weights]
        result["warm_seconds"] = [_wall(first, variables) for _ in range(1 if quick else 5)]
    say("start to first detection: " + ", ".join(f"{s:.2f}" for s in result["warm_seconds"]) + " s")
    return result


_PYTHON = [sys.executable, "-m", "mrcnn_np"]


def _wall(command: list[str], variables: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, env=variables, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def describe(record: dict[str, Any]) -> str:
    """Return one line about a row."""
    height, width = record["size"]
    times = ", ".join(
        f"{name} {value:.3f} s {record['peak_mib'][name]:.0f} MiB" for name, value in record["median"].items()
    )
    ratio = f", ratio {record['ratio']:.2f}" if record["ratio"] else ""
    return (
        f"{record['preset']} {record['what']} {record['batch']} x {height}x{width}, {record['threads']} threads: "
        f"{times}{ratio}"
    )


def cpu_count() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
