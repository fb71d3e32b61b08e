"""The types of the packages are complete: mypy reads a user's script with them, and finds what is wrong in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kernels
import mrcnn_np

pytest.importorskip("mypy")
ROOT = Path(__file__).parents[1]

SCRIPT = """
from pathlib import Path

import numpy as np

import kernels
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.boxes import boxes_from_xyxy
from mrcnn_np.config import Config
from mrcnn_np.data import Sample, open_dataset
from mrcnn_np.detections import Detection, Detections
from mrcnn_np.molding import make_batch


def found_in(folder: Path, names: list[str]) -> dict[str, float]:
    model: MaskRCNN = MaskRCNN.load(folder, detection_score_threshold=0.5)
    scores: dict[str, float] = {}
    for path in names:
        (found,) = model.detect(path)
        for one in found:
            scores[one.name] = max(scores.get(one.name, 0.0), one.score)
        first: Detection = found[0]
        best: Detections = found[found.scores > 0.9]
        records: list[dict[str, object]] = [*found[:3].to_coco(1)]
        print(first.box.tolist(), len(best), best.names, records, found.plot().size)
    trace: dict[str, np.ndarray] = model.trace(names[0])
    other: MaskRCNN = model.with_config(roi_aligned=False)
    print(trace["p2"].shape, other)
    return scores


config: Config = presets.tiny(num_classes=2, steps=10)
sample: Sample = open_dataset("voc", None).load(0)
with kernels.use("numpy"):
    losses, cache = MaskRCNN(config).losses(make_batch([sample], config), 0)
total: float = sum(losses.values())
boxes: np.ndarray = boxes_from_xyxy(np.zeros((1, 4)))
"""
WRONG = """
from mrcnn_np import MaskRCNN

model = MaskRCNN.load(3)
number: int = model.detect("a.png")[0].names
"""


def mypy(script: Path, text: str) -> tuple[int, str]:
    """Run mypy as a user would who has the packages installed and a script elsewhere."""
    script.write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file", "",
               "--no-error-summary", "--cache-dir", str(ROOT / ".mypy_cache"), str(script)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=script.parent, env=environment())
    return done.returncode, done.stdout + done.stderr


def environment() -> dict[str, str]:
    """Let mypy find the packages as a user's would."""
    return {**os.environ, "MYPYPATH": str(ROOT)}


def test_the_packages_say_that_they_are_typed():
    for package in (mrcnn_np, kernels):
        assert (Path(package.__file__).parent / "py.typed").is_file()


def test_mypy_reads_a_users_script(tmp_path):
    code, said = mypy(tmp_path / "script.py", SCRIPT)
    assert (code, said) == (0, "")
    code, said = mypy(tmp_path / "wrong.py", WRONG)
    assert code == 1 and said.count("error:") == 2 and "wrong.py:4" in said and "wrong.py:5" in said
