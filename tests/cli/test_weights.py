"""``mrcnn-np weights`` and ``mrcnn-np detect --weights``: what users see, and exit code 2 with one clear message."""

import importlib.util
import json
import pickle
import re
import sys

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from small_run import train
from weight_files import attack, save_like_torch

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.cli.arguments import build_parser
from mrcnn_np.cli.main import main
from mrcnn_np.onnx.export import PARTS
from mrcnn_np.synthetic import params_that_detect, picture
from mrcnn_np.weights import load_weights, save_weights
from mrcnn_np.weights.torchvision import state_shapes, to_torchvision

SMALL = {
    "backbone": "tiny", "fpn_channels": 8, "rpn_channels": 8, "box_head_channels": 16, "mask_head_channels": 8,
    "num_classes": 4, "image_min_size": 64, "image_max_size": 96,
}  # fmt: skip
CONFIG = presets.torchvision(**SMALL)
SIZES = ["--config", "image_min_size=64", "--config", "image_max_size=96"]


@pytest.fixture(scope="module")
def params():
    return params_that_detect(CONFIG)


@pytest.fixture
def theirs(params, tmp_path, monkeypatch):
    """A file as torchvision writes it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "model.pth"
    save_like_torch(path, to_torchvision(params, state_shapes(CONFIG), channels=8))
    return path


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(picture((64, 90))).save(path)
    return str(path)


def test_info(theirs, capsys):
    assert main(["weights", "info", str(theirs)]) == 0
    out = capsys.readouterr().out
    for expected in (
        "Mask R-CNN, tiny with FPN, 4 classes with background", "source torchvision", "sha256",
        "channel_order rgb (presumed)", "delta_order dx dy dw dh", "class_names not known", "float32",
    ):  # fmt: skip
        assert expected in " ".join(out.split())
    assert main(["weights", "info", str(theirs), "--config", "channel_order=bgr"]) == 0
    assert re.search(r"channel_order +bgr\n", capsys.readouterr().out)


def test_info_of_a_backbone(params, tmp_path, capsys):
    state = to_torchvision(params, state_shapes(CONFIG), channels=8)
    body = {n.removeprefix("backbone.body."): a for n, a in state.items() if n.startswith("backbone.body.")}
    path, out = tmp_path / "b.safetensors", tmp_path / "ours.safetensors"
    path.write_bytes(safetensors.numpy.save(body | {"fc.bias": np.zeros(5, np.float32)}))
    assert main(["weights", "info", str(path)]) == 0
    text = capsys.readouterr().out
    assert "tiny, backbone only" in text and "left aside: fc.bias" in text and "to be drawn at random: " in text
    assert main(["detect", "--weights", str(path), "x.png"]) == 2
    assert "holds the backbone tiny only" in capsys.readouterr().err
    assert main(["weights", "convert", str(path), str(out)]) == 0
    assert load_weights(out).manifest.num_classes is None
    assert main(["weights", "convert", str(path), str(tmp_path / "x.pth")]) == 2
    assert "needs more than the tiny" in capsys.readouterr().err


def test_info_says_what_is_not_finite(params, tmp_path, capsys):
    spoiled = {name: p.copy() for name, p in params.items()}
    spoiled["rpn.conv.b"][:3] = np.nan
    spoiled["rpn.conv.w"][0, 0, 0, 0] = -np.inf
    path = tmp_path / "w.safetensors"
    save_weights(path, spoiled, CONFIG)
    assert main(["weights", "info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "warning: 4 numbers in 2 tensors are NaN or infinite" in out
    assert "\n  rpn.conv.b: 3 of 8\n" in out and "\n  rpn.conv.w: 1 of 576\n" in out
    assert main(["weights", "convert", str(path), str(tmp_path / "again.safetensors")]) == 0
    assert "warning: 4 numbers in 2 tensors" in capsys.readouterr().out
    save_weights(path, {name: p * np.float32(np.nan) for name, p in params.items()}, CONFIG)
    assert main(["weights", "info", str(path)]) == 0
    assert f"  and {len(params) - 8} more\n" in capsys.readouterr().out
    save_weights(path, params, CONFIG)
    assert main(["weights", "info", str(path)]) == 0
    assert "infinite" not in capsys.readouterr().out


def test_convert_there_and_back(theirs, params, tmp_path, capsys):
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.pth"
    assert main(["weights", "convert", str(theirs), str(ours), *SIZES]) == 0
    assert main(["weights", "convert", str(ours), str(back)]) == 0
    for path in (ours, back):
        for name, p in load_weights(path).params.items():
            np.testing.assert_array_equal(p, params[name])
    assert load_weights(ours).manifest.config() == CONFIG
    assert f"are in {ours} (safetensors)" in capsys.readouterr().out


@pytest.mark.parametrize("preset", [None, "torchvision"])
def test_detect(theirs, image, tmp_path, capsys, preset):
    out = tmp_path / "found"
    wanted = [] if preset is None else ["--preset", preset]
    assert main(["detect", "--weights", str(theirs), image, "--out", str(out), "--score", "0.3", *wanted, *SIZES]) == 0
    record = json.loads((out / "photo_detections.json").read_text())
    assert record["detections"] and {d["class"] for d in record["detections"]} <= {"class 1", "class 2", "class 3"}
    assert (out / "photo_detections.png").exists()


def refused(capsys, *arguments):
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize("preset", ["detectron2", "matterport", "tiny"])
def test_weights_of_another_preset(theirs, image, capsys, preset):
    err = refused(capsys, "detect", "--weights", str(theirs), image, "--preset", preset)
    assert "belongs to another configuration" in err and "pixel_mean" in err
    assert "num_classes" not in err  # the sizes are those of the file


def test_options_that_do_not_belong_together(theirs, image, tmp_path, capsys):
    err = refused(capsys, "detect", "--run", str(tmp_path), image, "--preset", "torchvision")
    assert "--preset, --config and --class-names go with --weights" in err
    err = refused(capsys, "detect", "--weights", str(theirs), image, "--config", "num_classes=7")
    assert "does not fit the network" in err and "box_head.class.b" in err
    err = refused(capsys, "detect", "--weights", str(theirs), image, "--config", "no_such_field=7")
    assert "unknown config field" in err
    assert "--to" in refused(capsys, "weights", "convert", str(theirs), str(tmp_path / "x.weights"))
    assert "is the file to be read" in refused(capsys, "weights", "convert", str(theirs), str(theirs))
    err = refused(capsys, "weights", "convert", str(theirs), str(tmp_path / "none" / "x.pth"))
    assert "expected a file in a folder that exists" in err


def test_weights_without_a_manifest_need_a_preset(params, tmp_path, capsys):
    config = presets.tiny(num_classes=3)
    path = tmp_path / "w.npz"
    np.savez(path, **params_that_detect(config))
    assert "it has no manifest" in refused(capsys, "weights", "info", str(path))
    err = refused(capsys, "weights", "info", str(path), "--preset", "tiny")
    assert "box_head.class.b" in err  # of 4 classes
    np.savez(path, **params_that_detect(presets.tiny()))
    assert main(["weights", "info", str(path), "--preset", "tiny"]) == 0


@pytest.mark.parametrize("command", [["weights", "info"], ["detect", "x.png", "--weights"]])
def test_files_that_are_no_weights(tmp_path, capsys, command):
    path, marker = tmp_path / "weights.pkl", tmp_path / "executed"
    assert "cannot read" in refused(capsys, *command, str(path))
    assert "is a folder" in refused(capsys, *command, str(tmp_path))
    attack(path, marker)
    assert "asks for posix.system" in refused(capsys, *command, str(path))
    assert not marker.exists()
    for content, message in (
        (b"", "is empty"),
        (b"some text\n", "is no file of weights"),
        (pickle.dumps({"model": {"w": np.zeros(3)}})[:-30], "cut short or damaged"),
        (pickle.dumps({"model": {"encoder.w": np.zeros(3)}}), "of no network that is known here"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), str(path)),
    ):
        path.write_bytes(content)
        assert message in refused(capsys, *command, str(path))


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize(
    ("rpn", "head", "what"),
    [
        (3e38, 0.0, "a proposal"),  # an infinite centre less an infinite half side
        (0.0, 3e38, "a detected box"),
    ],
)
def test_boxes_that_overflow(image, tmp_path, capsys, rpn, head, what):
    """matterport's decoding has no limit, so weights of something else can reach infinity."""
    config = presets.matterport(backbone="tiny", num_classes=3, image_min_size=64, image_max_size=64, rpn_channels=8)
    params, path = params_that_detect(config), tmp_path / "w.safetensors"
    params["rpn.deltas.b"] += np.float32(rpn)
    params["box_head.deltas.b"] += np.float32(head)
    save_weights(path, params, config)
    err = refused(capsys, "detect", "--weights", str(path), image, "--score", "0", "--out", str(tmp_path))
    assert f"{what} holds NaN or infinity" in err


def test_a_parameter_that_is_nan(params, image, tmp_path, capsys):
    path = tmp_path / "nan.safetensors"
    save_weights(path, params | {"rpn.conv.b": np.full(8, np.nan, np.float32)}, CONFIG)
    assert "rpn.conv.b holds NaN" in refused(capsys, "detect", "--weights", str(path), image)


# --- ONNX -----------------------------------------------------------------------------------------------------------


def test_convert_to_onnx(theirs, image, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install -e '.[onnx]'")
    pytest.importorskip("onnx", reason="pip install -e '.[onnx]'")
    path = tmp_path / "network.onnx"
    path.write_bytes(b"an older file")
    changes = [*SIZES, "--config", "detection_score_threshold=0.3"]
    assert main(["weights", "convert", str(theirs), str(path), *changes]) == 0
    assert f"{path}: tiny of {theirs} as ONNX (whole), {path.stat().st_size:,} bytes" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    boxes, class_ids, scores, *_ = session.run(None, {"image": np.asarray(Image.open(image))})
    (found,) = MaskRCNN.load(theirs, overrides=[c for c in changes if c != "--config"]).detect(image)
    assert len(boxes) >= 3
    np.testing.assert_array_equal(class_ids, found.class_ids)
    np.testing.assert_allclose(boxes, found.boxes, atol=1e-2)
    np.testing.assert_allclose(scores, found.scores, atol=1e-4)
    other = tmp_path / "head"
    assert main(["weights", "convert", str(theirs), str(other), "--to", "onnx", "--part", "box_head"]) == 0
    assert [i.name for i in onnxruntime.InferenceSession(other).get_inputs()] == ["box_features"]


def test_convert_the_folder_of_a_run(params, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out.safetensors"
    run.mkdir()
    save_weights(run / "checkpoint.safetensors", params, CONFIG)
    assert main(["weights", "convert", str(run), str(out)]) == 0
    assert "checkpoint.safetensors are in" in capsys.readouterr().out
    assert load_weights(out).manifest.config() == CONFIG
    err = refused(capsys, "weights", "convert", str(run), str(run / "checkpoint.safetensors"))
    assert "is the file to be read" in err
    if importlib.util.find_spec("onnx"):
        assert main(["weights", "convert", str(run), str(tmp_path / "run.onnx")]) == 0


def test_every_part_can_be_asked_for():
    for part in PARTS:
        assert build_parser().parse_args(["weights", "convert", "a", "b", "--part", part]).part == part


def test_onnx_is_refused(theirs, params, tmp_path, capsys, monkeypatch):
    path = tmp_path / "x.onnx"
    err = refused(capsys, "weights", "convert", str(theirs), str(tmp_path / "x.pth"), "--part", "whole")
    assert "--part goes with --to onnx; " in err
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnx", None)
        err = refused(capsys, "weights", "convert", str(theirs), str(path))
        assert "needs the package onnx" in err and "pip install 'mrcnn-np[onnx]'" in err
    pytest.importorskip("onnx", reason="pip install -e '.[onnx]'")
    largest = ["--config", "roi_reduce=max", "--config", "roi_sampling_ratio=0"]
    assert "roi_reduce is 'max'" in refused(capsys, "weights", "convert", str(theirs), str(path), *largest)
    state = to_torchvision(params, state_shapes(CONFIG), channels=8)
    body = {n.removeprefix("backbone.body."): a for n, a in state.items() if n.startswith("backbone.body.")}
    backbone = tmp_path / "b.safetensors"
    backbone.write_bytes(safetensors.numpy.save(body))
    assert "holds the backbone tiny only" in refused(capsys, "weights", "convert", str(backbone), str(path))
    assert not path.exists()


def test_the_folder_of_a_run_is_weights(trained, shapes, tmp_path, capsys):
    checkpoint, run = trained / "checkpoint.safetensors", tmp_path / "run"
    assert main(["weights", "info", str(trained)]) == 0
    assert f"{checkpoint}: " in capsys.readouterr().out
    assert train(shapes, run, "--weights", str(trained)) == 0
    assert f"start: {checkpoint} (" in capsys.readouterr().out
    assert json.loads((run / "options.json").read_text())["weights"] == str(checkpoint)
    assert train(shapes, run, "--weights", str(trained), "--resume") == 0  # the same start, named as before
    for command in (["weights", "info"], ["train", "--root", shapes, "--out", str(tmp_path / "b"), "--weights"]):
        assert main([*command, str(trained.parent)]) == 2
        said = capsys.readouterr().err
        assert "it is a folder, expected that of a training run, or a file of weights; the runs in" in said
        assert said.rstrip().endswith(f" are {trained.name}")
