"""Measure on a GPU, beside PyTorch on the same: ``python -m mrcnn_np.bench.gpu.measure`` (``make bench-gpu``).

Times are medians of rounds between two CUDA events, each round as many calls as take some milliseconds, ours and
PyTorch's in turns; PyTorch without TF32 and with it. *As called*, a small kernel's time is that of the host, which
needs longer to launch it than it runs. *On the card* the card copies memory before the first event until the host has
launched all the calls: then they follow each other without gaps, unless the operation itself waits for the card. The
ceilings, a copy and PyTorch's largest product, are measured
in the same run. Errors are those of the last results against float64 on the CPU, relative to the largest number. It
writes ``gpu.json`` and the table of docs/gpu.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import kernels

from ...config import presets
from ...errors import UserError
from ...files import write_json
from ...model import MaskRCNN
from ...synthetic import batch, params_that_detect, picture
from ...training.loop import train_step
from ...training.optim import zero_velocity
from ..operations.op import Op
from . import page
from .torch_side import (
    SIZE,
    Clock,
    clock_of_torch,
    network_runs,
    nothing,
    peak_mib,
    tensors_on_the_gpu,
    tf32,
    tf32_left,
)
from .works import counts_bandwidth, on_device, target, works

ROUNDS, ROUND = 5, 0.01  # rounds of so many seconds
LIMIT = 170  # seconds after which no further row of the operations is begun


# --- the clock ------------------------------------------------------------------------------------------------------


def clock_of_cupy() -> Clock:
    """Return a function that times calls on CuPy's stream, in milliseconds a call, after something was launched."""
    import cupy

    def clock(run: Callable[[], Any], calls: int, before: Callable[[], None] = nothing) -> float:
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        before()
        start.record()
        for _ in range(calls):
            run()
        stop.record()
        stop.synchronize()
        return float(cupy.cuda.get_elapsed_time(start, stop)) / calls

    return clock


@functools.cache
def _room() -> tuple[Any, Any]:
    """Return two pieces of 256 MiB of the card's memory."""
    import cupy

    return cupy.zeros(1 << 26, cupy.float32), cupy.empty(1 << 26, cupy.float32)


def keep_busy(milliseconds: float) -> None:
    """Let the card copy for so long; a copy of 256 MiB takes at least 0.1 ms on any card."""
    import cupy

    source, there = _room()
    for _ in range(min(500, math.ceil(milliseconds / 0.1))):
        cupy.copyto(there, source)


def calls_of(clock: Clock, run: Callable[[], Any], milliseconds: float, most: int) -> int:
    """Return how many calls make a round, after two that warm up.

    Parameters
    ----------
    clock : Clock
    run : callable
    milliseconds : float
        That a round is to take.
    most : int
        Calls of a round, at most.
    """
    run()
    once = clock(run, 1)
    return max(1, min(most, round(milliseconds / max(once, 1e-3))))


def in_turns(contenders: dict[str, tuple[Clock, Callable[[], Any]]]) -> dict[str, float]:
    """Return the median time of each contender as called, in milliseconds; they take turns."""
    calls = {name: calls_of(*pair, ROUND * 1e3, 200) for name, pair in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, (clock, run) in contenders.items():
            times[name].append(clock(run, calls[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def on_the_card(contenders: dict[str, tuple[Clock, Callable[[], Any]]]) -> dict[str, float]:
    """Return the median time of each contender on the card, in milliseconds; they take turns."""
    calls = {name: calls_of(*pair, ROUND * 1e3, 20) for name, pair in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, (clock, run) in contenders.items():
            began = time.perf_counter()
            for _ in range(calls[name]):
                run()
            launching = (time.perf_counter() - began) * 1e3  # waits included, if it has some
            times[name].append(clock(run, calls[name], functools.partial(keep_busy, 1.5 * launching)))
    return {name: statistics.median(values) for name, values in times.items()}


# --- rows -----------------------------------------------------------------------------------------------------------


def ceilings() -> dict[str, float]:
    """Return what this card does at best: 10^9 bytes a second of a copy, 10^12 operations of PyTorch's product."""
    import cupy
    import torch

    copy = _copy()
    cupy.get_default_memory_pool().free_all_blocks()
    x = torch.randn(8192, 8192, device="cuda")
    found = {"copy_gbytes": 2 * 4 * (1 << 28) / copy / 1e6}
    for name, allowed in (("tflops", False), ("tf32_tflops", True)):
        with tf32(allowed):
            took = in_turns({"product": (clock_of_torch(), lambda: torch.mm(x, x))})["product"]
        found[name] = 2 * 8192**3 / took / 1e9
    return found


def _copy() -> float:
    """Return the milliseconds that a copy of 1 GiB takes."""
    import cupy

    source, there = cupy.zeros(1 << 28, cupy.float32), cupy.empty(1 << 28, cupy.float32)
    return in_turns({"copy": (clock_of_cupy(), lambda: cupy.copyto(there, source))})["copy"]


def measure_op(op: Op, *, torch_too: bool) -> list[dict[str, Any]]:
    """Measure one row in all its directions.

    Parameters
    ----------
    op : Op
        Not prepared yet.
    torch_too : bool
    """
    op.prepare(np.random.default_rng(0))
    theirs: dict[str, Any] = {}
    if torch_too:
        with tensors_on_the_gpu(), tf32(False):
            theirs = {variant: op.theirs(variant) for variant in op.variants}
    exact: dict[str, Any] = {}
    if op.gflop.get("forward", 0.0) < 5:  # else float64 on the CPU takes longer than all the rest
        with kernels.use("numpy"):
            exact = {direction: run() for direction, run in op.ours(np.float64).items()}
    found = []
    with kernels.use("cuda"):
        on_device(op)
        ours = op.ours(np.float32)
        for direction in op.directions:
            contenders: dict[str, tuple[Clock, Callable[[], Any]]] = {"ours": (clock_of_cupy(), ours[direction])}
            contenders |= {f"torch {v}".strip(): (clock_of_torch(), runs[direction]) for v, runs in theirs.items()}
            with tf32(False):
                times, alone = in_turns(contenders), on_the_card(contenders)
                errors = _errors(op, direction, ours, theirs, exact)
            with tf32(True):
                fast = on_the_card({name: pair for name, pair in contenders.items() if name != "ours"})
            row: dict[str, Any] = {
                "group": op.group,
                "case": op.case,
                "direction": direction,
                "ms": times,
                "card_ms": alone,
                "tf32_card_ms": fast,
            }
            row |= {"gflop": op.gflop.get(direction), "gbytes": op.gbytes.get(direction), "errors": errors}
            found.append(row | {"target": target(op, direction), "bandwidth": counts_bandwidth(op)})
    return found


def _errors(
    op: Op, direction: str, ours: dict[str, Any], theirs: dict[str, Any], exact: dict[str, Any]
) -> dict[str, float]:
    """Return errors against float64, relative to the largest number."""
    if direction not in exact or op.group in ("NMS", "SGD", "mask paste"):
        return {}
    expected = [np.asarray(a) for a in exact[direction]]
    sides = {"ours": [kernels.to_host(a) for a in ours[direction]()]}
    for variant, runs in list(theirs.items())[:1]:
        results = [t.detach().cpu() for t in runs[direction]()]
        sides[f"torch {variant}".strip()] = [np.asarray(a) for a in op.translate(direction, results)]
    found = {}
    for name, arrays in sides.items():
        if all(a.shape == b.shape for a, b in zip(arrays, expected)):
            found[name] = max(
                float(np.abs(a.astype(np.float64) - b).max(initial=0) / max(np.abs(b).max(initial=0), 1e-30))
                for a, b in zip(arrays, expected)
            )
    return found


# --- the network ----------------------------------------------------------------------------------------------------


def measure_network(*, torch_too: bool, cpu_too: bool) -> dict[str, Any]:
    """Measure ``maskrcnn_resnet50_fpn`` on one image of 800 x 1088: inference and a training step.

    Parameters
    ----------
    torch_too, cpu_too : bool
        As in ``run``.
    """
    import cupy

    config = presets.by_name(
        "torchvision", image_min_size=SIZE[0], image_max_size=SIZE[1], batch_size=1, learning_rate=1e-6, no_decay=()
    )
    with kernels.use("numpy"):  # the kernels of the CPU would have to be compiled for it
        image, params = picture(SIZE), params_that_detect(presets.by_name("torchvision"))
    pool = cupy.get_default_memory_pool()
    found: dict[str, Any] = {}
    runs = {"inference": _detecting(config, params, image), "training step": _training(config, params)}
    theirs = network_runs(config, params) if torch_too else {}
    for what, run in runs.items():
        pool.free_all_blocks()
        with kernels.use("cuda"):
            run()
            contenders = {"ours": (clock_of_cupy(), run)}
            if what in theirs:
                contenders["torch"] = (clock_of_torch(), theirs[what])
            with tf32(False) if torch_too else tf32_left():
                row: dict[str, Any] = {"ms": in_turns(contenders), "peak_mib": {"ours": pool.total_bytes() >> 20}}
            if what in theirs:
                with tf32(True):
                    row["tf32_ms"] = in_turns({"torch": contenders["torch"]})
                row["peak_mib"]["torch"] = peak_mib(theirs[what])
        if cpu_too:
            with kernels.use("cpu"):
                run()
                began = time.perf_counter()
                run()
                row["ms"]["ours, cpu backend"] = (time.perf_counter() - began) * 1e3
        found[what] = row
    return found


def _detecting(config: Any, params: Any, image: np.ndarray) -> Callable[[], Any]:
    model = MaskRCNN(config, {name: p.copy() for name, p in params.items()})
    return lambda: model.detect(image)


def _training(config: Any, params: Any) -> Callable[[], Any]:
    model = MaskRCNN(config, {name: p.copy() for name, p in params.items()})
    velocity, ready = zero_velocity(model.params, config), batch(SIZE, config)
    return lambda: train_step(model, ready, velocity, step=0, rng=np.random.default_rng(0))


# --- all ------------------------------------------------------------------------------------------------------------


def run(
    out: Path, *, quick: bool = False, torch_too: bool = True, cpu_too: bool = True, only: str | None = None
) -> Path:
    """Measure everything, and write it after every row, so that an interruption loses little.

    Parameters
    ----------
    out : Path
        The folder of ``gpu.json``.
    quick : bool
        Small sizes, and no network.
    torch_too : bool
        Measure PyTorch beside ours.
    cpu_too : bool
        Measure our network on the cpu backend, too.
    only : str, optional
        ``"network"`` or ``"operations"``.
    """
    import cupy

    began = time.perf_counter()
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    result: dict[str, Any] = {"card": properties["name"].decode(), "date": str(date.today()), "rows": []}
    result["versions"] = {"cupy": cupy.__version__, "numpy": np.__version__}
    if torch_too:
        import torch
        import torchvision

        result["versions"] |= {"torch": torch.__version__, "torchvision": torchvision.__version__}
        result["ceilings"] = ceilings()
    path = out / "gpu.json"
    out.mkdir(parents=True, exist_ok=True)
    for what, measured in _parts(quick, torch_too, cpu_too, only, began):
        if isinstance(measured, list):
            result["rows"] += measured
        else:
            result["network"] = measured
        write_json(path, result)
        print(f"{time.perf_counter() - began:5.0f} s  {what}: {_in_words(measured)}", flush=True)
    return path


def _parts(quick: bool, torch_too: bool, cpu_too: bool, only: str | None, began: float) -> Iterator[tuple[str, Any]]:
    if not quick and only != "operations":
        yield "network", measure_network(torch_too=torch_too, cpu_too=cpu_too)
    for op in works(quick=quick) if only != "network" else ():
        name = f"{op.group} {op.case}"
        if time.perf_counter() - began > LIMIT:
            print(f"no time left for {name}", flush=True)
            continue
        try:
            yield name, measure_op(op, torch_too=torch_too)
        except Exception as error:  # one row that fails must not take the others' minutes with it; it is printed
            print(f"FAILED {name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            traceback.print_exc(limit=-3)


def _in_words(measured: Any) -> str:
    """Return times for the terminal: as called, and in parentheses on the card."""
    rows = measured if isinstance(measured, list) else [{"direction": k, **v} for k, v in measured.items()]

    def time_of(row: dict[str, Any], name: str) -> str:
        return f"{name} {row['ms'][name]:.3f}" + (f" ({row['card_ms'][name]:.3f})" if "card_ms" in row else "")

    return "; ".join(f"{row['direction']} " + ", ".join(time_of(row, n) for n in row["ms"]) + " ms" for row in rows)


def main() -> int:
    """Measure, and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/bench-gpu"))
    parser.add_argument("--quick", action="store_true", help="small sizes: tests that everything runs")
    parser.add_argument("--only", choices=("network", "operations"))
    parser.add_argument("--without-torch", action="store_true")
    parser.add_argument("--without-cpu", action="store_true", help="do not time our cpu backend")
    args = parser.parse_args()
    try:
        from kernels.cuda.machine.require import require

        require()
    except OSError as error:
        print(f"error: the backend cuda cannot run here: {error}", file=sys.stderr)
        return 2
    path = run(
        args.out, quick=args.quick, torch_too=not args.without_torch, cpu_too=not args.without_cpu, only=args.only
    )
    if not args.quick and args.only is None and page.PAGE.is_file():
        page.rewrite(json.loads(path.read_text(encoding="utf-8")))
        print(f"written: {path}, {page.PAGE}")
    return 0


def run_for_command(args: argparse.Namespace) -> int:
    """Do ``mrcnn-np bench --backend cuda``."""
    if args.only or args.match:
        raise UserError("--only and --match choose among the measurements of the CPU; expected neither with cuda")
    path = run(Path(args.out), quick=args.quick, torch_too=not args.without_torch)
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
