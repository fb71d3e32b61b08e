"""Names from files never give orders to the terminal, whichever command prints them, and in no file that one reads."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from coco_tree import CocoTree
from PIL import Image
from small_run import SMALL

from mrcnn_np.cli.main import main
from mrcnn_np.cli.terminal import Escaped, escaped
from mrcnn_np.errors import UserError, printable

NAME, SHOWN = "a\x1b[31mred\x07", "a\\x1b[31mred\\x07"
BLUE = "\x1b]0;title\x07blue"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two classes with such names; the image ids are numbers, the file names have escape codes, too."""
    tree = CocoTree(tmp_path_factory.mktemp("data") / "coco")
    tree.content["categories"] = [{"id": 3, "name": NAME}, {"id": 7, "name": BLUE}]
    rng = np.random.default_rng(0)
    for number in range(1, 5):
        tree.image(number, height=64, width=64, file_name=f"\x1b[2J{number}.png")
        tree.rectangle(number, 8, 8, 30, 24).rectangle(number, 30, 30, 24, 30, category=7)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(tree.images / f"\x1b[2J{number}.png")
    tree.save()
    other = json.loads(tree.json.read_text())
    other["categories"][1]["name"] = "\x1b[3mgreen"  # so that one class is missing, and one unknown
    (tree.json.parent / "instances_val.json").write_text(json.dumps(other))
    (tree.root / "images" / "val").symlink_to(tree.images)
    return tree.root


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    """What a training prints, and its folder."""
    out = tmp_path_factory.mktemp("runs") / "a"
    return out, ["train", "--data", "coco", "--root", root, "--out", out, "--eval-splits", "train,val", *SMALL]


def said(capsys, *words):
    code = main([str(word) for word in words])
    return code, "".join(capsys.readouterr())


@pytest.fixture
def trained(run, capsys):
    out, words = run
    if not out.exists():
        code, text = said(capsys, *words)
        assert code == 0 and SHOWN in text and obeys_nothing(text)
    return out


def obeys_nothing(text):
    return printable(text, keep="\n\t\r") == text


COMMANDS = {
    "check": ["data", "check", "--data", "coco", "--root", "ROOT"],
    "show": ["data", "show", "--data", "coco", "--root", "ROOT", "--out", "OUT"],
    "detect": ["detect", "--run", "RUN", "IMAGE", "--out", "OUT"],
    "detect in a folder": ["detect", "--run", "RUN", "IMAGES", "--out", "OUT"],
    "results": ["detect", "--run", "RUN", "IMAGE", "--out", "OUT", "--coco-results", "OUT/results.json"],
    "eval": ["eval", "--run", "RUN", "--root", "ROOT", "--split", "val"],
    "eval coco": ["eval", "--run", "RUN", "--root", "ROOT", "--split", "train", "--method", "coco"],
    "explain": ["explain", "--run", "RUN", "--root", "ROOT", "--split", "train", "--out", "OUT"],
    "info": ["weights", "info", "RUN/checkpoint.safetensors"],
    "convert": ["weights", "convert", "RUN/checkpoint.safetensors", "OUT.safetensors"],
    "info of converted": ["weights", "info", "RUN/converted.safetensors"],
    "classes that nothing has": ["eval", "--run", "RUN", "--root", "OTHER", "--split", "train"],
    "another data set": ["train", "--resume", "--data", "coco", "--root", "OTHER", "--out", "RUN", "--steps", "9"],
    "fine-tune": ["train", "--weights", "RUN/checkpoint.safetensors", "--data", "coco", "--root", "OTHER", "--out",
                  "OUT", "--no-eval", "--no-pictures", "--steps", "1", "--quiet"],
    "conventions": ["conventions", "--run", "RUN", "--out", "OUT"],
    "anchors": ["data", "anchors", "--data", "coco", "--root", "ROOT"],
    "no such run": ["detect", "--run", "OUT\x1b[31m", "IMAGE"],
    "no such split": ["data", "check", "--data", "coco", "--root", "ROOT", "--split", "\x1b[31m"],
}  # fmt: skip


@pytest.mark.filterwarnings("error:Glyph")
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_prints_what_a_terminal_obeys(name, root, trained, tmp_path, capsys):
    other = CocoTree(tmp_path / "other")
    other.content["categories"] = [{"id": 1, "name": "\x1b[3mgreen"}, {"id": 2, "name": "\x9b1mpink"}]
    for number in (1, 2):
        other.image(number, height=64, width=64).rectangle(number, 8, 8, 30, 24, category=1)
    other.save()
    converted = trained / "converted.safetensors"
    if "converted" in name:
        main(["weights", "convert", str(trained / "checkpoint.safetensors"), str(converted)])
        capsys.readouterr()
    images = root / "images" / "train"
    places = {"ROOT": root, "RUN": trained, "OTHER": other.root, "IMAGES": images, "OUT": tmp_path / "out"}
    places["IMAGE"] = images / "\x1b[2J1.png"
    (tmp_path / "out").mkdir()
    words = list(COMMANDS[name])
    for key in ("IMAGES", "IMAGE", "ROOT", "RUN", "OTHER", "OUT"):
        words = [word.replace(key, str(places[key])) if word.startswith(key) else word for word in words]
    code, text = said(capsys, *words)
    assert code in (0, 2) and text and obeys_nothing(text), repr(text)
    assert "\\x1b" in text or name in ("eval coco", "convert", "anchors", "conventions"), text  # these name no class
    written = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".md", ".html", ".txt")]
    assert all(obeys_nothing(path.read_text()) for path in written)


def test_files_of_a_run_that_one_reads(trained):
    assert SHOWN in (trained / "summary.md").read_text()
    for path in Path(trained).rglob("*.*"):
        if path.suffix in (".md", ".json", ".jsonl", ".txt", ".svg"):
            assert obeys_nothing(path.read_text()), path


def test_progress_bars_and_lines_stay_as_they_are(capsys):
    with escaped():
        print("ä\tb\nc", end="")
        sys.stderr.write("\r 50 % ████")
        sys.stderr.write("a\rb\x08\x1b[A\u202e")
        assert isinstance(sys.stdout, Escaped) and sys.stdout.encoding and not sys.stdout.isatty()
    assert not isinstance(sys.stdout, Escaped)
    out, err = capsys.readouterr()
    assert out == "ä\tb\nc" and err == "\r 50 % ████a\\rb\\x08\\x1b[A\\u202e"


def test_errors_of_the_library():
    assert str(UserError(f"the class {NAME}\n  and so on")) == f"the class {SHOWN}\n  and so on"
