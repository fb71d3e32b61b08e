"""Every script of the tutorial runs from a fresh folder, says its telling numbers and saves its pictures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Tests run side by side: two BLAS threads each would wait for one another, many times longer than they compute
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
TUTORIAL = Path(__file__).parent.parent / "tutorial"

# script -> (what it must say, pictures)
LESSONS = {
    "01_image_and_molding": (["(128, 0, 896, 1024)", "2.0480", "(0.0, 2.5, 7.5, 12.5, 17.5, 20.0)", "NumPy: 0e+00"], 3),
    "02_backbone": (["23,508,032", "42,500,160", "39 x 39 39 x 39", "207 x 207 207 x 207", "303 x 303 256 x 256"], 2),
    "03_pyramid": (["3,344,384", "P5[:, ::2, ::2]: True", "C3 16 of 1024 9 of 256", "enlarge alike: True"], 2),
    "04_anchors": (["261888", "268569", "90.5 x 181.0", "4092", "[[1.0, 0.1429], [0.1429, 1.0]]", "0.82* 0.35"], 3),
    "05_rpn_targets": (
        ["Loop [1, 0, -1, 1, -1], NumPy [1, 0, -1, 1, -1]", "(0.10, 0.10, 0.00, 0.00)", "(1.00, 1.00, 0.00, 0.00)"],
        3,
    ),
    "06_rpn_and_proposals": (["the same boxes: True", "keeps [0, 1], at 0.49 [0]", "keep the same, True"], 3),
    "07_roi_levels_and_align": (
        [
            "108.16",
            "91.80",
            "(3.000, 5.000, 7.000, 9.000)",
            "(10.6125, 11.5375, ",
            "224 (papers) P2 P2 P2 P2 P2",
            "56 (here) P2 P2 P3 P3 P4",
        ],
        2,
    ),
    "08_heads_and_losses": (["0.6931", "1.3863", "0.4444", "+0.6652 -0.7553 +0.0900", "0.4741 by hand, 0.4741"], 2),
    "09_backward": (["for the first convolution: True", "along the gradient", "dx = dy w^T = (2, 1, 0)"], 2),
    "10_detections_and_masks": (["gives the same: True", "10 .. 37: 28 x 28", "NumPy differ: 0 of"], 2),
    "11_evaluation": (["0.5556", "0.5455", "0.5545", "outcome [1, 0]", "0.5556 (voc10), 0.5455 (voc07)"], 2),
    "12_dialects": (
        [
            "93 numbers",
            "33 numbers",
            "90.0 x 182.0",
            "1,189,394",
            "593,935",
            "200 66 134 67 20",
            "12,846,080",
            "29 x 29",
        ],
        2,
    ),
}


def start(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder and return what it wrote."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=folder, env=ENVIRONMENT, check=False
    )


def run(script: str, out: Path, *arguments: str) -> tuple[str, list[Path]]:
    """Run a lesson without a trained run; return its words, lines joined, and the pictures that it names."""
    command = [sys.executable, str(TUTORIAL / f"{script}.py"), "--out", str(out), "--run", str(out / "no-run")]
    done = start([*command, *arguments], out)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    listed = [Path(line.strip()) for line in done.stdout.split("\nPictures\n")[1].splitlines()]
    return " ".join(done.stdout.split()), listed


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the lessons share, for the network of the first to be used by the others."""
    return tmp_path_factory.mktemp("tutorial")


def test_every_script_is_listed_here_and_in_the_index() -> None:
    scripts = sorted(p.stem for p in TUTORIAL.glob("[0-9]*.py"))
    assert scripts == sorted(LESSONS)
    index = (TUTORIAL / "README.md").read_text()
    assert all(f"`{script}.py`" in index for script in scripts)


@pytest.mark.parametrize("script", LESSONS)
def test_lesson_runs(script: str, out: Path) -> None:
    said, pictures = run(script, out, "--steps", "20")
    numbers, count = LESSONS[script]
    for number in numbers:
        assert number in said
    assert "Answers 1." in said
    assert len(pictures) == count
    for path in pictures:
        assert path.name.startswith(script[:2])
        with Image.open(path) as picture:
            assert min(picture.size) > 200
            assert np.asarray(picture.convert("L")).std() > 5  # not blank


@pytest.mark.parametrize("script", LESSONS)
def test_lesson_runs_on_a_picture_without_ground_truth(script: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "own.png")
    _, pictures = run(script, tmp_path, str(tmp_path / "own.png"))
    assert all(path.is_file() for path in pictures)


@pytest.mark.parametrize("script", LESSONS)
def test_lessons_say_where_the_loop_is(script: str) -> None:
    """Every stage that has a plain loop names it; the last lesson has no stage of its own."""
    introduction = (TUTORIAL / f"{script}.py").read_text().split('"""')[1]
    named = re.findall(r"tests/oracles/\w+\.py", introduction)
    assert named or script == "12_dialects"
    for name in named:
        assert (TUTORIAL.parent / name).is_file()
        for loop in re.search(r"loops?: (.*?) in tests/oracles", introduction, re.DOTALL)[1].split(" and "):
            for function in re.findall(r"\w+", loop):
                assert f"def {function}(" in (TUTORIAL.parent / name).read_text(), (script, function)


def test_a_missing_picture_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(TUTORIAL / "01_image_and_molding.py"), "missing.jpg", "--out", str(tmp_path)]
    done = start(command, tmp_path)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: missing.jpg: does not exist; expected an image (JPEG, PNG, ")
