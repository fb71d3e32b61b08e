"""The Python examples of README.md and docs/training.md run as they stand, beside a run and a data set."""

import re
from pathlib import Path

import numpy as np
import pytest

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.data import SHAPES_CLASSES, generate
from mrcnn_np.training.checkpoint import Checkpoint, save_checkpoint
from mrcnn_np.training.optim import zero_velocity

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["README.md", "docs/training.md"])
def test_examples_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    generate("datasets/shapes", train=2, val=200, size=32)  # the README names the last of the held-out ones
    config = presets.tiny(num_classes=len(SHAPES_CLASSES), detection_score_threshold=0.1)
    model = MaskRCNN(config, rng=np.random.default_rng(0))  # every class about as likely: it finds something
    folder = tmp_path / "runs" / "shapes-tiny"
    folder.mkdir(parents=True)
    velocity = zero_velocity(model.params, config)
    checkpoint = Checkpoint(1, 0, config, SHAPES_CLASSES, model.params, velocity, "none")
    save_checkpoint(folder / "checkpoint.safetensors", checkpoint)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert len(blocks) == 1
    names: dict[str, object] = {}
    exec(blocks[0], names)
    if page == "README.md":
        lines = capsys.readouterr().out.splitlines()
        assert lines and all(line.split()[0] in SHAPES_CLASSES and line.endswith(" pixels") for line in lines)
        assert all((tmp_path / "runs" / name).is_file() for name in ("found.png", "fewer.png"))
    else:
        assert set(names["grads"]) <= set(names["model"].params) and len(names["losses"]) == 5
