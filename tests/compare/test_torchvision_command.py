"""``mrcnn-np compare --with torchvision`` from the command line: what it prints, writes and returns."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
pytest.importorskip("torchvision", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

from PIL import Image  # noqa: E402

from mrcnn_np import presets  # noqa: E402
from mrcnn_np.cli.main import main  # noqa: E402
from mrcnn_np.compare.torchvision.model import build  # noqa: E402
from mrcnn_np.synthetic import params_that_detect, picture  # noqa: E402

torch.set_num_threads(1)
SMALL = ["--config", "num_classes=4", "--config", "detections_per_image=20", "--config", "rois_per_image=8"]
FAST = [*SMALL, "--config", "backbone=resnet18"]


def compare(tmp_path, *arguments):
    return main(["compare", "--quiet", "--out", str(tmp_path / "out"), *arguments])


def test_noise_agrees(tmp_path, capsys):
    assert compare(tmp_path, "--random", "70x90", "--size", "64", *FAST) == 0
    printed = capsys.readouterr().out
    assert "all 43 tensors agree within 1e-04" in printed and "mask_probabilities" in printed
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"compare.md", "compare.html", "compare.json", "side_by_side.png", "errors.png"}


def test_a_difference_on_our_side(tmp_path, capsys):
    assert compare(tmp_path, "--size", "64", "--only-ours", "bn_eps=0.001", "--dtype", "float64", *FAST) == 1
    printed = capsys.readouterr().out
    assert "first to differ: c1" in printed and "on our side only: bn_eps = 0.001" in printed


def test_an_image_and_a_file_of_weights(tmp_path, capsys):
    """What torchvision's own torch.save wrote, on a photograph's worth of pixels, teacher-forced."""
    config = presets.torchvision(num_classes=4)
    Image.fromarray(picture((60, 80), 3)).save(tmp_path / "picture.png")
    torch.save(build(params_that_detect(config), config).state_dict(), tmp_path / "weights.pth")
    arguments = [str(tmp_path / "picture.png"), "--weights", str(tmp_path / "weights.pth"), "--size", "64"]
    assert compare(tmp_path, *arguments, "--teacher-forced") == 0
    printed = capsys.readouterr().out
    assert "picture.png" in printed and "weights.pth (torchvision)" in printed and "teacher forcing" in printed
    assert "4 classes" in printed


def test_steps_of_training(tmp_path, capsys):
    assert compare(tmp_path, "--random", "64x96", "--size", "64", "--train-steps", "2", *FAST) == 0
    assert "2 steps: losses differ by at most" in capsys.readouterr().out
    document = (tmp_path / "out" / "training.md").read_text()
    assert "no ReLU is near its kink" in document and document.count("| rpn_class |") == 2
    assert (tmp_path / "out" / "training.html").exists()


def test_operations(tmp_path, capsys):
    assert compare(tmp_path, "--ops") == 0
    assert "all within their bounds" in capsys.readouterr().out
    assert (tmp_path / "out" / "ops.md").read_text().count("| ok |") > 70


@pytest.mark.parametrize("arguments, message", [
    (["missing.png"], "missing.png"), (["--weights", "missing.pth"], "missing.pth"),
    (["--config", "colour=1"], "unknown config field 'colour'"), (["--preset", "tiny"], "backbone is 'tiny'"),
    (["--only-ours", "bn_eps"], "field=value"), (["--preset", "matterport"], "box_head is 'conv'"),
    (["--train-steps", "2", "--teacher-forced"], "belong to a detection"),
    (["--with", "keras", "--ops"], "compares with PyTorch only"),
    (["--ops", "--dtype", "float64", "--seed", "3"], "--seed, --dtype cannot be combined with --ops"),
    (["--ops", "photo.jpg"], "IMAGE cannot be combined with --ops"),
])  # fmt: skip
def test_bad_input(tmp_path, capsys, arguments, message, monkeypatch):
    from mrcnn_np.cli import compare as command

    right = command.require
    monkeypatch.setattr(command, "require", lambda name: right("torchvision"))  # keras need not be there for this
    assert compare(tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err


def test_an_out_folder_that_is_a_file(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert compare(tmp_path, "--size", "64", *FAST) == 2
    assert "cannot write into" in capsys.readouterr().err
    assert np.array_equal((tmp_path / "out").read_bytes(), b"")
