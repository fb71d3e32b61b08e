"""What a neighbour costs: a step and a detection beside a program that keeps one core busy, for each threading layer.

Laptops with a browser and shared servers are the rule, and threads that wait for each other suffer most where a core is
taken: the slower half of the work decides. Numba can share out its work in three ways (*workqueue*, *omp*, *tbb*) and
reads at import which one it is to use; so each runs in a process of its own, first alone and then beside a child that
counts in Python. One of two cores being taken, two threads that share the rest fairly take 1.33 times as long, and two
that each wait for the other 2 times; one thread ought not to notice.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from .network import make_weights
from .quiet import Record, Watch, mark
from .team import Team, environment
from .timing import REST

LAYERS = ("workqueue", "omp", "tbb")
#: as users have it: the layer that Numba takes, with threads that give way; all others keep their threads
DEFAULT = "default"
#: prints the layer that Numba has started
_WHICH = (
    "import numba\n"
    "from mrcnn_np.bench.roofline import peaks_now\n"
    "peaks_now()\n"
    "print(numba.threading_layer())\n"
)  # fmt: skip
#: keeps a core busy until its parent is gone
_COUNT = (
    "import os\n"
    "parent = os.getppid()\n"
    "while os.getppid() == parent:\n"
    "    for _ in range(10**6):\n"
    "        pass\n"
)  # fmt: skip


def available(layer: str) -> str:
    """Return why a threading layer cannot be used, in a few words; nothing if it can."""
    variables = environment(2) | {"NUMBA_THREADING_LAYER": layer}
    done = subprocess.run([sys.executable, "-c", _WHICH], capture_output=True, text=True, env=variables)
    if done.returncode:
        *_, said = re.split(r"^\w*Error: ", done.stderr, flags=re.MULTILINE)  # all that the last error has to say
        return " ".join(said.split()) or f"ended with code {done.returncode}"
    found = done.stdout.split()[-1]
    return "" if found == layer else f"{found} ran in its place"


@contextmanager
def busy_core() -> Iterator[int]:
    """Let another process count within the block, whose id it gets."""
    process = subprocess.Popen([sys.executable, "-c", _COUNT], stdin=subprocess.DEVNULL)
    try:
        time.sleep(0.2)  # until it has started
        yield process.pid
    finally:
        process.kill()
        process.wait()


def run_busy(
    folder: Path, *, repeat: int, threads: int, quick: bool, watch: Watch, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Measure the step of ``make train`` and a detection of the preset tiny, alone and beside a busy core.

    Parameters
    ----------
    folder : Path
        For the weights.
    repeat : int
        Turns of each, after one that is not timed.
    threads : int
        Beside one, which is measured too.
    quick : bool
        Small batches, short rests.
    watch : Watch
        Says whether the machine was quiet while nothing else was to run.
    say : callable
        Gets a line for each finished row.

    Returns
    -------
    dict
        ``rows``: what, layer, threads, ``seconds``, ``median`` and ``ratio`` of busy over quiet; ``missing``: why
        layers could not be measured.
    """
    missing = {layer: why for layer in LAYERS if (why := available(layer))}
    for layer, why in missing.items():
        say(f"threading layer {layer} is not available: {why}")
    contenders = [(DEFAULT, threads), *((layer, threads) for layer in LAYERS if layer not in missing)]
    if threads > 1:
        contenders.append((DEFAULT, 1))
    weights, rows = make_weights("tiny", folder), []
    for what in ("train", "detect"):
        images = 1 if what == "detect" else 2 if quick else 8
        task = {"preset": "tiny", "size": (128, 128), "batch": images, "what": what, "weights": weights}
        for layer, count in contenders:
            row = _row({**task, "threads": count}, layer, repeat, 0.0 if quick else REST, watch)
            rows.append(row)
            say(describe(row))
    return {"rows": rows, "missing": missing}


def _row(task: Record, layer: str, repeat: int, rest: float, watch: Watch) -> Record:
    """Measure one contender alone, again if the machine was not quiet, and then beside a busy core.

    Parameters
    ----------
    task : dict
        What the worker is to run.
    layer : str
        Threading layer.
    repeat : int
    rest : float
        Seconds before each turn.
    watch : Watch
    """
    variables = {"MRCNN_NP_GIVE_WAY": "1"} if layer == DEFAULT else {"NUMBA_THREADING_LAYER": layer}
    with Team(["cpu"], task, variables) as team:
        team.turn("cpu")
        (row,) = watch.around(_name(task, layer), partial(_turns, team, repeat, rest))
        with busy_core():
            (busy,) = _turns(team, repeat, rest)
    seconds = {"quiet": row.pop("turns"), "busy": busy["turns"]}
    medians = {name: median(turns) for name, turns in seconds.items()}
    started = row.pop("layer")
    return row | {
        "what": task["what"],
        "preset": task["preset"],
        "batch": task["batch"],
        "layer": f"{layer} ({started})" if layer == DEFAULT else layer,
        "threads": task["threads"],
        "seconds": seconds,
        "median": medians,
        "ratio": medians["busy"] / medians["quiet"],
    }


def _turns(team: Team, repeat: int, rest: float) -> list[Record]:
    """Return one record: the seconds of every turn, and the threading layer that ran.

    Parameters
    ----------
    team : Team
    repeat : int
    rest : float
        Seconds before each turn.
    """
    turns = []
    for _ in range(repeat):
        time.sleep(rest)
        answer = team.turn("cpu")
        turns.append(answer["seconds"])
    return [{"turns": turns, "layer": answer["layer"]}]


def describe(row: Record) -> str:
    """Return one line about a row."""
    times = row["median"]
    return (
        f"{_name(row, row['layer'])}: quiet {times['quiet']:.3f} s, busy {times['busy']:.3f} s, "
        f"busy / quiet {row['ratio']:.2f}{mark(row)}"
    )


def _name(task: Record, layer: str) -> str:
    threads = f"{task['threads']} thread" + "s" * (task["threads"] > 1)
    return f"{task['preset']} {task['what']}, {layer}, {threads}"
