"""Every command with networks that read one map: ResNet C4, and a VGG without masks."""

import json

import pytest
from small_run import SMALL

from mrcnn_np.cli.main import main

FEW = [
    "--config", "proposals_pre_nms_train=60", "--config", "proposals_post_nms_train=20", "--config",
    "proposals_post_nms_test=10", "--config", "rois_per_image=8",
]  # fmt: skip
VGG = [
    "--preset", "tiny_c4", "--config", "backbone=tiny_vgg", "--config", "box_head=fc", "--config", "box_pool_size=7",
    "--config", "roi_method=roi_pool", "--config", "mask_branch=false", "--config", "box_head_channels=16",
    "--freeze", "conv1,conv2",
]  # fmt: skip
NETWORKS = {"c4": ["--preset", "tiny_c4"], "vgg": VGG}


@pytest.fixture(scope="module", params=NETWORKS)
def run(request, shapes, tmp_path_factory):
    """A finished run of each network."""
    out = tmp_path_factory.mktemp("runs") / request.param
    assert main(["train", "--root", shapes, "--out", str(out), *SMALL, *NETWORKS[request.param], *FEW]) == 0
    return out


def test_it_trains_and_resumes(run, shapes, capsys):
    config = json.loads((run / "config.json").read_text())
    assert config["neck"] == "none" and config["anchor_strides"] == [16]
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["head_mask"] > 0) == config["mask_branch"]
    assert main(["train", "--root", shapes, "--out", str(run), "--resume", "--steps", "5", "--no-eval"]) == 0
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) in (4, 5) and "error" not in capsys.readouterr().err


@pytest.mark.parametrize("command", [
    "eval --run {run} --root {shapes} --split val",
    "eval --run {run} --root {shapes} --split val --method coco",
    "detect --run {run} {shapes}/VOC2012/JPEGImages --out {out}",
    "explain --run {run} --root {shapes} --split val --out {out}",
    "data anchors --run {run} --data shapes --root {shapes}",
    "conventions --run {run} --only detection_classes",
    "weights info {run}/checkpoint.safetensors",
    "weights convert {run}/checkpoint.safetensors {out}.safetensors",
])  # fmt: skip
def test_commands(run, shapes, tmp_path, command, capsys):
    command = command.format(run=run, shapes=shapes, out=tmp_path / "out")
    code = main(command.split())
    out, err = capsys.readouterr()
    assert code == 0, (command, out[-1000:], err)
    assert "P6" not in out, "of a pyramid that is not there"


def test_torchvisions_file_has_no_place_for_it(run, tmp_path, capsys):
    out = str(tmp_path / "out.pth")
    assert main(["weights", "convert", str(run / "checkpoint.safetensors"), out, "--to", "torchvision"]) == 2
    assert "torchvision's Mask R-CNN has a pyramid and masks; this network has no pyramid" in capsys.readouterr().err


@pytest.mark.parametrize("change, message", [
    ("neck=none", "anchor_strides is (4, 8, 16, 32, 64); expected 1 stride"),
    ("backbone=vgg16", "backbone is 'vgg16'; expected a ResNet"),
    ("box_head=c5", "box_head is 'c5'; expected another"),
])  # fmt: skip
def test_half_a_change_is_refused(shapes, tmp_path, change, message, capsys):
    assert main(["train", "--root", shapes, "--out", str(tmp_path / "x"), "--config", change]) == 2
    assert message in capsys.readouterr().err
