"""Workers, each in a process of its own, that take turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from .timing import REST, summarise

#: who reads how many threads to use; set before a process starts, because NumPy's OpenBLAS looks only then
VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def environment(threads: int) -> dict[str, str]:
    """Return this process' environment with the number of threads in it, which no contender lowers by itself."""
    return {**os.environ, **dict.fromkeys(VARIABLES, str(threads)), "MRCNN_NP_GIVE_WAY": "0"}


class Team:
    """Contenders at one task.

    Parameters
    ----------
    contenders : sequence of str
        ``numpy``, ``cpu``, ``torch``, ``torch channels_last``.
    task : mapping
        What ``worker.py`` expects, without the contender.
    variables : mapping of str to str, optional
        Further environment variables of their processes.
    """

    def __init__(
        self, contenders: Sequence[str], task: Mapping[str, Any], variables: Mapping[str, str] | None = None
    ) -> None:
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.contenders, self.task, self.variables = contenders, task, dict(variables or {})

    def __enter__(self) -> Team:
        command = [sys.executable, "-m", "mrcnn_np.bench.worker"]
        try:
            for name in self.contenders:
                variables = environment(self.task["threads"]) | self.variables
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
                )
                self.processes[name] = process
                self._ask(name, json.dumps({**self.task, "contender": name}))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.close()
                process.wait(timeout=10)
            except (OSError, subprocess.TimeoutExpired):
                process.kill()
                process.wait()
            process.stdout.close()

    def turn(self, name: str) -> dict[str, Any]:
        """Let one contender run once."""
        return self._ask(name, "")

    def _ask(self, name: str, line: str) -> dict[str, Any]:
        process = self.processes[name]
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"the process of {name!r} died with code {process.wait()} (task: {dict(self.task)})")
        result: dict[str, Any] = json.loads(answer)
        return result


def compete(
    contenders: Sequence[str],
    task: Mapping[str, Any],
    *,
    repeat: int,
    limits: Mapping[str, int] | None = None,
    rest: float = REST,
) -> dict[str, Any]:
    """Let contenders take turns at one task.

    Parameters
    ----------
    contenders : sequence of str
    task : mapping
    repeat : int
        Rounds, after one that is not timed.
    limits : mapping of str to int, optional
        Fewer rounds for some.
    rest : float
        Seconds before each turn.

    Returns
    -------
    dict
        The task, ``seconds``, ``median``, ``ratio``, ``peak_mib`` by contender; ``scores_apart``, the largest
        difference between the sorted scores of our cpu backend and of the framework, or ``losses`` of the last turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    last: dict[str, dict[str, Any]] = {}
    with Team(contenders, task) as team:
        for number in range(repeat + 1):
            for name in contenders:
                if number > (limits or {}).get(name, repeat):
                    continue
                time.sleep(rest)
                last[name] = team.turn(name)
                if number > 0:
                    seconds[name].append(last[name]["seconds"])
    kept = {key: value for key, value in task.items() if key != "weights"}
    record = {**kept, **summarise(seconds), "peak_mib": {name: r["peak_mib"] for name, r in last.items()}}
    if task["what"] == "detect":
        record["detections"] = {name: len(r["scores"]) for name, r in last.items()}
        if "torch" in last and "cpu" in last:
            a, b = (sorted(last[name]["scores"], reverse=True) for name in ("cpu", "torch"))
            record["scores_apart"] = max((abs(x - y) for x, y in zip(a, b)), default=0.0)
    else:
        record["losses"] = {name: r["loss"] for name, r in last.items()}
    return record
