"""``mrcnn-np detect``: what it writes, and what it refuses."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mrcnn_np.cli.main import main
from mrcnn_np.training.checkpoint import load_checkpoint, save_checkpoint


def test_detect_writes_pictures_numbers_and_masks(trained, shapes, tmp_path, capsys):
    source = os.path.join(shapes, "VOC2012", "JPEGImages", "val_000000.jpg")
    narrow, broken = tmp_path / "narrow.png", tmp_path / "broken.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 11), np.uint8)).save(narrow)
    broken.write_bytes(b"no image")
    out = tmp_path / "found"
    images = [source, str(broken), str(narrow)]
    assert main(["detect", "--run", str(trained), *images, "--out", str(out), "--score", "0", "--quiet"]) == 2
    assert "broken.jpg" in capsys.readouterr().err
    assert {p.name for p in out.iterdir()} == {
        f"{name}_{kind}" for name in ("val_000000", "narrow")
        for kind in ("detections.png", "detections.json", "instances.png")
    }  # fmt: skip
    for name, shape in (("val_000000", (64, 64)), ("narrow", (40, 11))):
        record = json.loads((out / f"{name}_detections.json").read_text())
        instances = np.array(Image.open(out / f"{name}_instances.png"))
        assert (record["height"], record["width"]) == instances.shape == shape
        numbers = [d["n"] for d in record["detections"]]
        assert numbers == list(range(1, len(numbers) + 1))
        assert set(np.unique(instances)) <= {0, *numbers}
        scores = [d["score"] for d in record["detections"]]
        assert scores == sorted(scores, reverse=True)
        for d in record["detections"]:
            y1, x1, y2, x2 = d["box"]
            assert 0 <= y1 <= y2 <= shape[0]
            assert 0 <= x1 <= x2 <= shape[1]
            assert d["class"] in ("circle", "square", "triangle")
    if record["detections"]:  # the first is on top
        assert (instances == 1).sum() == record["detections"][0]["pixels"]


def test_detect_keeps_images_of_one_name_apart(trained, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / folder / "x.png")
    images = [str(tmp_path / folder / "x.png") for folder in ("a", "b")]
    assert main(["detect", "--run", str(trained), *images, "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert {p.name for p in (tmp_path / "out").glob("*.json")} == {"x_detections.json", "x-2_detections.json"}


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_detect_takes_a_file_name_that_is_no_text(trained, tmp_path):
    name = os.fsdecode(b"\xff.png")
    Image.new("RGB", (40, 40)).save(tmp_path / name)
    command = [sys.executable, "-m", "mrcnn_np", "detect", "--run", str(trained), str(tmp_path / name), "--quiet"]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    record = json.loads((tmp_path / "out" / os.fsdecode(b"\xff_detections.json")).read_text())
    assert record["image"] == str(tmp_path / name)


def test_detect_never_overwrites_an_image_it_was_given(trained, tmp_path, capsys):
    images = [tmp_path / "x.png", tmp_path / "x_instances.png"]
    for path in images:
        Image.new("RGB", (40, 40)).save(path)
    before = [path.read_bytes() for path in images]
    assert main(["detect", "--run", str(trained), *map(str, images), "--out", str(tmp_path), "--quiet"]) == 2
    assert f"{images[1]} would be overwritten" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == images
    assert [path.read_bytes() for path in images] == before


@pytest.mark.parametrize("given", [["no/such/folder"], ["no*.png"], []])
def test_a_detection_of_nothing_leaves_no_folder(trained, tmp_path, monkeypatch, capsys, given):
    monkeypatch.chdir(tmp_path)
    given = given or [str(tmp_path)]  # which holds no picture
    for out in ([], ["--out", "new/x"]):
        assert main(["detect", "--run", str(trained), *given, *out, "--quiet"]) == 2
    assert not list(tmp_path.iterdir()) and "error: " in capsys.readouterr().err


def test_bad_checkpoints(trained, tmp_path, capsys):
    path = tmp_path / "c.safetensors"
    whole = (trained / "checkpoint.safetensors").read_bytes()
    checkpoint = load_checkpoint(trained / "checkpoint.safetensors")

    def cut():
        path.write_bytes(whole[:-5])

    def other_config():
        save_checkpoint(
            path, checkpoint.__class__(**{**vars(checkpoint), "config": checkpoint.config.replace(fpn_channels=32)})
        )

    def not_a_number():
        name = "rpn.conv.w" if "rpn.conv.w" in checkpoint.params else list(checkpoint.params)[5]
        checkpoint.params[name].flat[0] = np.nan
        save_checkpoint(path, checkpoint)

    for make, message in (
        (lambda: None, "no checkpoint"),
        (cut, "cut short or damaged"),
        (other_config, "do not fit the configuration"),
        (not_a_number, "holds NaN or infinity"),
    ):
        make()
        assert main(["detect", "--checkpoint", str(path), "x.png", "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "c.safetensors" in error


@pytest.mark.parametrize("command", ["detect", "eval", "explain", "conventions"])
def test_what_is_no_run(trained, tmp_path, capsys, command):
    runs, checkpoint = trained.parent, trained / "checkpoint.safetensors"
    (tmp_path / "shapes-tiny").mkdir()
    given = ["x.png"] if command == "detect" else []
    for run, message in (
        (runs / "nope", f"there is no run {runs / 'nope'}; the runs in {runs} are {trained.name}"),
        (tmp_path / "shape-tiny", f"there is no run {tmp_path / 'shape-tiny'}; did you mean '{tmp_path}/shapes-tiny'?"),
        (tmp_path / "no" / "no", f"there is no run {tmp_path}/no/no; expected the folder of a training run"),
        (checkpoint, f"--run {checkpoint} is a file; expected the folder of a run, such as {trained}. --weights FILE "
                     "takes a file"),
        (runs, f"{runs} holds no checkpoint.safetensors; it is a folder, expected that of a training run, or a file of "
               f"weights; the runs in {runs} are {trained.name}"),
    ):  # fmt: skip
        assert main([command, "--run", str(run), *given]) == 2
        assert capsys.readouterr().err.splitlines()[0] == f"error: {message}"
