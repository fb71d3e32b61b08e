"""``mrcnn-np bench``: measure, and write the tables, the numbers and a chart."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..bench import chart, machine, markdown
from ..bench.network import cpu_count, run_network, run_scaling, run_start
from ..bench.team import environment
from ..files import prepare, read_json, write_json, write_text

SECTIONS = ("ops", "network", "scaling", "start")


def say(line: str) -> None:
    """Print a line of progress at once, also into a pipe."""
    print(line, flush=True)


def run_bench(args: argparse.Namespace) -> int:
    """Run the sections that were asked for."""
    out = Path(args.out)
    prepare(out)
    threads = args.threads or min(2, cpu_count())
    repeat = args.repeat or (1 if args.quick else 7)
    frameworks = not args.without_torch and machine.frameworks_installed()
    if not frameworks:
        why = "left out" if args.without_torch else "not installed (pip install 'mrcnn-np[compare]')"
        say(f"PyTorch and torchvision are {why}: only our own backends are measured, and there are no ratios")
    results: dict[str, Any] = {"machine": machine.info(threads)}
    results["options"] = {"repeat": repeat, "threads": threads, "frameworks": frameworks, "quick": args.quick}
    common = {"threads": threads, "quick": args.quick, "say": say}
    few = min(repeat, 3)  # of what takes seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for section in args.only or SECTIONS:
            say(f"--- {section}")
            if section == "ops":
                settings = {"repeat": repeat, "threads": threads, "frameworks": frameworks}
                results[section] = _ops(folder, {**settings, "quick": args.quick, "match": args.match})
            elif section == "network":
                results[section] = run_network(folder, repeat=few, frameworks=frameworks, numpy=args.numpy, **common)
            elif section == "scaling":
                results[section] = run_scaling(folder, repeat=few, frameworks=frameworks, **common)
            else:
                results[section] = run_start(folder, repeat=repeat, **common)
            _write(out, results)  # after every section, so that an interruption loses little
    say(f"written: {', '.join(str(out / name) for name in ('bench.md', 'bench.json', 'bench.png'))}")
    return 0


def _ops(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Measure the operations in a fresh process, where the number of threads is right from the start."""
    path = folder / "ops.json"
    command = [sys.executable, "-m", "mrcnn_np.cli.bench", json.dumps(settings), str(path)]
    subprocess.run(command, check=True, env=environment(settings["threads"]))
    result: dict[str, Any] = read_json(path)
    return result


def _write(out: Path, results: dict[str, Any]) -> None:
    write_json(out / "bench.json", results)
    write_text(out / "bench.md", markdown.write(results))
    chart.draw(out / "bench.png", results)


if __name__ == "__main__":
    from ..bench.operations.run import run

    write_json(Path(sys.argv[2]), run(**json.loads(sys.argv[1]), say=say))
