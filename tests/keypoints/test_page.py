"""docs/keypoints.md: its example runs, prints what the page says, and draws the page's picture."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs" / "keypoints.md"


def test_the_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(block, {})
    printed = capsys.readouterr().out
    assert printed.strip() in text and printed.count("\n") == 6
    drawn, shown = (
        np.asarray(Image.open(p).convert("RGB")).astype(int) for p in ("keypoints.png", PAGE.parent / "keypoints.png")
    )
    assert drawn.shape == shown.shape and (np.abs(drawn - shown).max(axis=2) > 40).mean() < 0.02  # fonts differ
