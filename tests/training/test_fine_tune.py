"""``mrcnn-np train --weights``: from other people's files and our own to a few steps on generated shapes."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
from weight_files import save_like_torch

from mrcnn_np import presets
from mrcnn_np.cli.main import main
from mrcnn_np.network import spec
from mrcnn_np.synthetic import params_that_detect
from mrcnn_np.training.checkpoint import load_checkpoint
from mrcnn_np.training.run_folder import read_steps
from mrcnn_np.weights.torchvision import state_shapes, to_torchvision

TINY = {"backbone": "tiny", "fpn_channels": 8, "rpn_channels": 8, "box_head_channels": 16, "mask_head_channels": 8}
#: torchvision's network, made small; nothing but sizes differs from the published one
THEIRS = presets.torchvision(num_classes=4, image_min_size=64, image_max_size=96, **TINY)
FEW = [
    "--size", "64", "--batch-size", "2", "--steps", "3", "--checkpoint-every", "1", "--quiet", "--no-eval",
    "--no-pictures", "--config", "warmup_steps=1", "--config", "learning_rate=0.005",
]  # fmt: skip


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    assert main(["data", "shapes", "--root", str(root), "--train", "5", "--val", "2", "--size", "64"]) == 0
    return str(root)


@pytest.fixture(scope="module")
def hexagons(shapes, tmp_path_factory):
    """The same images in COCO's format; the squares are called hexagons, and of the stars there are none."""
    root = tmp_path_factory.mktemp("coco")
    path = root / "annotations" / "instances_train.json"
    assert main(["data", "coco", "--root", shapes, "--split", "train", "--out", str(path), "--quiet"]) == 0
    content = json.loads(path.read_text())
    content["categories"][1]["name"] = "hexagon"
    content["categories"].append({"id": 90, "name": "star"})
    path.write_text(json.dumps(content))
    (root / "images").symlink_to(f"{shapes}/VOC2012/JPEGImages")
    return str(root)


@pytest.fixture(scope="module")
def params():
    return params_that_detect(THEIRS)


@pytest.fixture(scope="module")
def torchvision_file(params, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "maskrcnn.pth"
    save_like_torch(path, to_torchvision(params, state_shapes(THEIRS), channels=8))
    return path


@pytest.fixture(scope="module")
def imagenet_file(params, tmp_path_factory):
    state = to_torchvision(params, state_shapes(THEIRS), channels=8)
    body = {n.removeprefix("backbone.body."): a for n, a in state.items() if n.startswith("backbone.body.")}
    path = tmp_path_factory.mktemp("weights") / "resnet.safetensors"
    path.write_bytes(safetensors.numpy.save(body | {"fc.weight": np.zeros((5, 96), np.float32)}))
    return path


@pytest.fixture(scope="module")
def tuned(shapes, torchvision_file, tmp_path_factory):
    """A finished run; tests only read it."""
    out = tmp_path_factory.mktemp("runs") / "tuned"
    assert tune(shapes, out, torchvision_file, "--freeze", "stem,c2,norm") == 0
    return out


def tune(shapes, out, weights, *more):
    return main(["train", "--root", shapes, "--out", str(out), "--weights", str(weights), *FEW, *more])


def config_of(run):
    return json.loads((run / "config.json").read_text())


def bits(folder):
    names = ("checkpoint.safetensors", "metrics.jsonl", "config.json", "weights.json")
    return {name: (folder / name).read_bytes() for name in names}


def refused(capsys, *arguments):
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and "Traceback" not in captured.err
    return captured.err


# --- what it starts from --------------------------------------------------------------------------------------------


def test_from_a_file_of_torchvision(tuned, params, shapes, torchvision_file, tmp_path, capsys):
    out = tmp_path / "b"
    assert tune(shapes, out, torchvision_file, "--freeze", "stem,c2,norm") == 0
    assert bits(out) == bits(tuned)
    said = capsys.readouterr().out
    for line in (
        f"start: {torchvision_file} (torchvision: Mask R-CNN, tiny with FPN, 4 classes with background)",
        "drawn       6 tensors: box_head.class.w, box_head.class.b, box_head.deltas.w",
        "the rows of these classes, which the file has: background\n",
        "the file does not name its classes; --class-names says what they are",
        "frozen      44 tensors: backbone.stem.*, backbone.c2.*, backbone.*.bn*\n",
        "presumed    channel_order, pixel_scale, pixel_mean, pixel_std, stride_in_1x1, bn_eps, stem_pool_padding: see",
        "training: 3 steps of 2 images, learning rate 0.005 after 1 steps of warm-up",
        f"- started from {torchvision_file}",
    ):
        assert line in said
    config = config_of(out)
    assert (config["name"], config["pixel_mean"], config["roi_aligned"]) == (
        "torchvision",
        [0.485, 0.456, 0.406],
        False,
    )
    assert config["frozen"] == ["backbone.stem.*", "backbone.c2.*", "backbone.*.bn*"]
    record = json.loads((out / "weights.json").read_text())
    assert len(record["taken"]) + len(record["drawn"]) == len(params) and record["source"] == "torchvision"
    options = json.loads((out / "options.json").read_text())
    assert (options["weights"], options["freeze"]) == (str(torchvision_file), "stem,c2,norm")

    trained = load_checkpoint(out / "checkpoint.safetensors")
    frozen = [n for n in params if n.startswith(("backbone.stem.", "backbone.c2.")) or ".bn" in n]
    assert len(frozen) > 80 and not set(frozen) & set(trained.velocity)
    for name in frozen:
        assert trained.params[name].tobytes() == params[name].tobytes(), name
    assert all((trained.params[name] != params[name]).any() for name in ("backbone.c3.0.conv1.w", "box_head.fc1.w"))


def test_with_names_the_classes_are_kept(params, shapes, torchvision_file, tmp_path, capsys):
    """Not a step is done, so that the rows can be compared."""
    out = tmp_path / "a"
    assert tune(shapes, out, torchvision_file, "--steps", "0", "--class-names", "triangle,disc,circle") == 0
    said = capsys.readouterr().out
    assert "which the file has: background, circle, triangle\n" in said and "new classes: square\n" in said
    b = load_checkpoint(out / "checkpoint.safetensors").params["box_head.class.b"]
    old = params["box_head.class.b"]
    np.testing.assert_array_equal(b, [old[0], old[3], 0, old[1]])
    assert (
        tune(shapes, tmp_path / "b", torchvision_file, "--steps", "0", "--class-names", "circle,square,triangle") == 0
    )
    assert "drawn" not in capsys.readouterr().out
    for name, p in load_checkpoint(tmp_path / "b" / "checkpoint.safetensors").params.items():
        assert p.tobytes() == params[name].tobytes()


def test_from_a_backbone(params, shapes, imagenet_file, tmp_path, capsys):
    out = tmp_path / "a"
    assert tune(shapes, out, imagenet_file, "--preset", "tiny", "--freeze", "backbone") == 0
    said = capsys.readouterr().out
    assert "(torchvision ImageNet: tiny, backbone only)" in said
    assert (
        "left aside  1 tensors: fc.weight" in said
        and "drawn       38 tensors: fpn 16, rpn 6, box_head 8, mask_head 8" in said
    )
    config = config_of(out)
    assert (config["name"], config["bn_mode"], config["fpn_channels"]) == ("tiny", "frozen", 48)
    assert config["pixel_mean"] == [0.485, 0.456, 0.406]
    trained = load_checkpoint(out / "checkpoint.safetensors")
    for name, p in params.items():
        if name.startswith("backbone."):
            assert trained.params[name].tobytes() == p.tobytes(), name
    assert all(np.isfinite(r["loss"]) for r in read_steps(out / "metrics.jsonl"))


def test_from_our_own_checkpoint_to_other_classes(tuned, hexagons, tmp_path, capsys):
    out = tmp_path / "a"
    start = tuned / "checkpoint.safetensors"
    assert main(["train", "--data", "coco", "--root", hexagons, "--out", str(out), "--weights", str(start), *FEW]) == 0
    said = capsys.readouterr().out
    assert "which the file has: background, circle, triangle" in said and "new classes: hexagon, star" in said
    config = config_of(out)
    assert config["num_classes"] == 5 and config["frozen"] == []  # what froze in the earlier run is free again
    assert config["bn_eps"] == config_of(tuned)["bn_eps"]
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["weights"], summary["steps"]) == (str(start), 3)
    before, after = load_checkpoint(start).params, load_checkpoint(out / "checkpoint.safetensors").params
    assert after["box_head.class.b"].shape == (5,)
    assert (after["backbone.stem.conv.w"] != before["backbone.stem.conv.w"]).any()


# --- interruptions --------------------------------------------------------------------------------------------------


def test_kill_minus_nine_and_resume_without_the_file(tuned, shapes, torchvision_file, tmp_path):
    out, weights = tmp_path / "b", tmp_path / torchvision_file.name
    weights.write_bytes(torchvision_file.read_bytes())
    command = [sys.executable, "-m", "mrcnn_np", "train", "--root", shapes, "--out", str(out), *FEW]
    command += ["--weights", str(weights), "--freeze", "stem,c2,norm"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and not (out / "timings.jsonl").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    weights.unlink()
    assert main(["train", "--out", str(out), "--resume", "--quiet", "--no-eval", "--no-pictures"]) == 0
    found, expected = bits(out), bits(tuned)
    found["weights.json"] = found["weights.json"].replace(str(weights).encode(), str(torchvision_file).encode())
    assert found == expected


def test_what_a_resumed_run_started_from_cannot_change(tuned, shapes, torchvision_file, tmp_path, capsys):
    before = bits(tuned)
    resume = ["train", "--root", shapes, "--out", str(tuned), "--resume", "--quiet", "--no-eval", "--no-pictures"]
    assert main([*resume, "--weights", str(torchvision_file)]) == 0  # as a script would say it every time
    err = refused(capsys, *resume, "--weights", "other.pth")
    assert f"other.pth, but the run in {tuned} was started with {torchvision_file}" in err
    assert "was started without it" in refused(capsys, *resume, "--preset", "torchvision")
    assert "was started without it" in refused(capsys, *resume, "--class-names", "a,b,c")
    assert "frozen: ('backbone.stem.*', 'backbone.c2.*', 'backbone.*.bn*') there" in refused(
        capsys, *resume, "--freeze", "stem"
    )
    assert bits(tuned) == before


def test_weights_for_a_run_that_had_none(shapes, torchvision_file, tmp_path, capsys):
    out = tmp_path / "scratch"
    command = ["train", "--root", shapes, "--out", str(out), *FEW, "--steps", "0"]
    assert main(command) == 0
    assert not (out / "weights.json").exists()
    capsys.readouterr()
    assert "was started without it" in refused(capsys, *command, "--resume", "--weights", str(torchvision_file))
    assert main([*command, "--overwrite", "--weights", str(torchvision_file)]) == 0
    (out / "weights.json").write_text("{}")
    said = refused(capsys, *command, "--resume")
    assert "weights.json" in said and "config" in said and "restore the file" in said
    assert main([*command, "--overwrite"]) == 0
    assert not (out / "weights.json").exists()  # it belonged to the run before


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--freeze", "stem,layer4"],
            "there is no part 'layer4' to freeze; expected some of stem, c2, c3, c4, c5, conv1, conv2,",
        ),
        (["--freeze", "backbone,fpn,rpn,box_head,mask_head"], "everything is frozen, so there is nothing to train"),
        (["--preset", "detectron2"], "belongs to another configuration"),
        (["--config", "fpn_channels=16"], "does not fit the network: of 131 tensors"),
        (["--config", "backbone=resnet50"], "does not fit the network"),
        (["--config", "num_classes=7"], "num_classes is 7; the data set has 4 classes"),
        (["--class-names", "a,b"], "--class-names has 2 names (a, b); the network has 3 classes"),
    ],
)
def test_bad_options(shapes, torchvision_file, tmp_path, capsys, options, message):
    out = tmp_path / "out"
    command = ["train", "--root", shapes, "--out", str(out), "--weights", str(torchvision_file), *FEW, *options]
    assert message in refused(capsys, *command)
    assert not out.exists()


def test_bad_files(shapes, imagenet_file, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["train", "--root", shapes, "--out", str(out), *FEW]
    missing = tmp_path / "none.pth"
    assert f"cannot read {missing}: No such file" in refused(capsys, *command, "--weights", str(missing))
    assert "is a folder" in refused(capsys, *command, "--weights", str(tmp_path))
    (tmp_path / "x").write_bytes(b"some text\n")
    assert "is no file of weights" in refused(capsys, *command, "--weights", str(tmp_path / "x"))
    (tmp_path / "x").write_bytes(safetensors.numpy.save({"encoder.w": np.zeros(3, np.float32)}))
    assert "of no network that is known here" in refused(capsys, *command, "--weights", str(tmp_path / "x"))
    err = refused(capsys, *command, "--weights", str(imagenet_file), "--class-names", "a,b,c")
    assert "holds a backbone only" in err
    assert "expected that option, too" in refused(capsys, *command, "--class-names", "a,b,c")
    assert not out.exists()


def test_a_parameter_that_is_nan(params, shapes, tmp_path, capsys):
    path = tmp_path / "nan.pth"
    bad = params | {"rpn.conv.b": np.full(8, np.nan, np.float32)}
    save_like_torch(path, to_torchvision(bad, state_shapes(THEIRS), channels=8))
    err = refused(capsys, "train", "--root", shapes, "--weights", str(path), "--out", str(tmp_path / "out"), *FEW)
    assert f"{path}: tensor rpn.conv.b holds NaN" in err


def test_every_tensor_is_accounted_for(tuned):
    record = json.loads((tuned / "weights.json").read_text())
    assert sorted([*record["taken"], *record["drawn"]]) == sorted(spec(THEIRS))
