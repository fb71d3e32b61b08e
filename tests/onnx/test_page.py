"""The Python examples of docs/onnx.md run as they stand, beside a run, its file, and pictures."""

import re
from pathlib import Path

import pytest
from onnx_run import REASON
from PIL import Image

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.cli.main import main
from mrcnn_np.data import SHAPES_CLASSES
from mrcnn_np.synthetic import params_that_detect, picture
from mrcnn_np.training.checkpoint import Checkpoint, save_checkpoint
from mrcnn_np.training.optim import zero_velocity

pytest.importorskip("onnx", reason=REASON)
pytest.importorskip("onnxruntime", reason=REASON)
PAGE = Path(__file__).parents[2] / "docs" / "onnx.md"


def test_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = presets.tiny(num_classes=len(SHAPES_CLASSES), detection_score_threshold=0.3, detections_per_image=20)
    model = MaskRCNN(config, params_that_detect(config))
    folder = tmp_path / "runs" / "shapes-tiny"
    folder.mkdir(parents=True)
    velocity = zero_velocity(model.params, config)
    save_checkpoint(
        folder / "checkpoint.safetensors", Checkpoint(1, 0, config, SHAPES_CLASSES, model.params, velocity, "none")
    )
    assert main(["weights", "convert", "runs/shapes-tiny", "shapes.onnx"]) == 0
    (tmp_path / "photos").mkdir()
    for name, size in (("photo.jpg", (64, 64)), ("photos/a.jpg", (96, 64)), ("photos/b.jpg", (50, 77))):
        Image.fromarray(picture(size)).save(name)
    capsys.readouterr()
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    said = capsys.readouterr().out.splitlines()[-2:]
    for line in said:
        how = r"photos/.\.jpg: (\d+) objects, boxes (\S+) pixels, scores (\S+), (\d+) pixels of masks apart"
        objects, box, score, pixels = map(float, re.fullmatch(how, line).groups())
        assert objects > 0 and box <= 1e-2 and score <= 1e-4 and pixels <= 3
    # a file that is none of this run's
    assert main(["weights", "convert", "runs/shapes-tiny", "shapes.onnx", "--config", "detections_per_image=1"]) == 0
    capsys.readouterr()
    exec(blocks[2], names)
    assert capsys.readouterr().out.count("OTHER OBJECTS: 1 in the file, ") == 2
