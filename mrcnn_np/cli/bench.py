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
from ..bench.busy import run_busy
from ..bench.gpu.measure import run_for_command
from ..bench.machine import cpu_count
from ..bench.network import run_network, run_scaling, run_start
from ..bench.presets import run_presets
from ..bench.quiet import TRIES, Probe, Watch, in_words
from ..bench.team import environment
from ..bench.timeline import page, picture
from ..config.presets import PRESETS
from ..files import prepare, read_json, write_json, write_text

#: what is measured unless ``--only`` says otherwise
SECTIONS = ("ops", "network", "scaling", "start")


def say(line: str) -> None:
    """Print a line of progress at once, also into a pipe."""
    print(line, flush=True)


def run_bench(args: argparse.Namespace) -> int:
    """Run the sections that were asked for."""
    if args.backend == "cuda":
        return run_for_command(args)
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
    with tempfile.TemporaryDirectory() as name, Probe() as probe:
        watch = Watch(probe, tries=1 if args.quick else TRIES, say=say)
        results["machine"]["two_threads"] = watch.first
        say(in_words(watch.first))
        for section in args.only or SECTIONS:
            say(f"--- {section}")
            results[section] = _measure(section, Path(name), args, results["options"], watch)
            written = _write(out, results)  # after every section, so that an interruption loses little
    say(f"written: {', '.join(str(path) for path in written)}")
    return 0


def _measure(
    section: str, folder: Path, args: argparse.Namespace, options: dict[str, Any], watch: Watch
) -> dict[str, Any]:
    """Run one section.

    Parameters
    ----------
    section : str
    folder : Path
        For weights and intermediate results.
    args : Namespace
        The command line.
    options : dict
        Rounds, threads, and whether frameworks take part.
    watch : Watch
    """
    repeat, threads, frameworks = options["repeat"], options["threads"], options["frameworks"]
    common: dict[str, Any] = {"threads": threads, "quick": args.quick, "watch": watch, "say": say}
    few = min(repeat, 3)  # of what takes seconds
    if section == "ops":
        return _apart(section, folder, {**options, "match": args.match})
    if section == "timeline":
        return _apart(section, folder, {**options, "preset": args.preset, "folder": str(folder)})
    if section == "network":
        return run_network(folder, repeat=few, frameworks=frameworks, numpy=args.numpy, **common)
    if section == "scaling":
        return run_scaling(folder, repeat=few, frameworks=frameworks, **common)
    if section == "busy":
        return run_busy(folder, repeat=repeat, **common)
    if section == "presets":
        names = ("tiny",) if args.quick else tuple(PRESETS)
        backends = ("cpu", "numpy") if args.numpy else ("cpu",)
        return run_presets(names, backends=backends, threads=threads, watch=watch, say=say)
    return run_start(folder, repeat=repeat, **common)


def _apart(section: str, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Measure a section in a fresh process, where the number of threads is right from the start.

    Parameters
    ----------
    section : str
        ``ops`` or ``timeline``.
    folder : Path
        For what it finds.
    settings : dict
    """
    path = folder / f"{section}.json"
    command = [sys.executable, "-m", "mrcnn_np.cli.bench", section, json.dumps(settings), str(path)]
    subprocess.run(command, check=True, env=environment(settings["threads"]))
    result: dict[str, Any] = read_json(path)
    return result


def _here(section: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Measure such a section in this process."""
    with Probe() as probe:
        watch = Watch(probe, tries=1 if settings["quick"] else TRIES, say=say)
        if section == "timeline":
            from ..bench.timeline.measure import run as run_timeline

            names = ("preset", "repeat", "threads", "quick")
            given = {name: settings[name] for name in names}
            return run_timeline(Path(settings["folder"]), **given, watch=watch, say=say)
        from ..bench.operations.run import run

        return run(**settings, watch=watch, say=say)


def _write(out: Path, results: dict[str, Any]) -> list[Path]:
    """Write what there is so far; the chart only if there are ratios, the timeline's files only with it."""
    write_json(out / "bench.json", results)
    write_text(out / "bench.md", markdown.write(results))
    drawn = chart.draw(out / "bench.png", results)
    written = [out / "bench.md", out / "bench.json", *([] if drawn is None else [drawn])]
    if "timeline" in results:
        write_text(out / "timeline.md", page.write(results["timeline"]))
        picture.draw(out / "timeline.png", results["timeline"], results["machine"])
        written += [out / "timeline.md", out / "timeline.png"]
    return written


if __name__ == "__main__":
    write_json(Path(sys.argv[3]), _here(sys.argv[1], json.loads(sys.argv[2])))
