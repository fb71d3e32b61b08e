"""What the progress bar shows of a step: as much as fits into the terminal, and never a part of a number."""

import re

import pytest

from mrcnn_np.training.bar import Bar

RECORD = {
    "rpn_class": 0.6931, "rpn_box": 0.412, "head_class": 1.2345, "head_box": 0.0512, "head_mask": 0.6812,
    "loss": 3.072, "rpn_positives": 123.0, "roi_positives": 45.0,
}  # fmt: skip
PARTS = "rpn_class 0.693 rpn_box 0.412 head_class 1.234 head_box 0.051 head_mask 0.681"
ALL = f"91.3 images/s, loss 3.072 = {PARTS}, positive 123 anchors 45 RoIs]"


def shown(monkeypatch, capsys, columns, record=RECORD, total=15000):
    """Return the last state of a bar in a terminal of so many columns, None for a file."""
    size = (None, None) if columns is None else (columns - 1, 39)
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda file: size)
    bar = Bar(0, total, enabled=True)
    bar._tqdm._time = lambda: bar._tqdm.start_t + 1.0  # one step a second
    for _ in range(3):
        bar.show(record, images_per_second=91.3)
    bar.close()
    return re.split(r"[\r\n]+", capsys.readouterr().err.strip())[-1]


@pytest.mark.parametrize(
    ("columns", "end"),
    [
        (80, ", loss 3.072]"),
        (60, "step/s]"),
        (90, ", loss 3.072 with head_mask 0.681]"),
        (100, ", loss 3.072 with head_class 1.234 head_mask 0.681]"),
        (120, ", loss 3.072 with rpn_class 0.693 head_class 1.234 head_mask 0.681]"),
        (165, f", loss 3.072 = {PARTS}]"),
        (180, f", 91.3 images/s, loss 3.072 = {PARTS}]"),
        (220, f", {ALL}"),
        (None, f", {ALL}"),
    ],
)
def test_what_matters_least_is_left_out_first(monkeypatch, capsys, columns, end):
    line = shown(monkeypatch, capsys, columns)
    assert line.endswith(end) and "3/15000 [" in line


@pytest.mark.parametrize("record", [RECORD, {**RECORD, "head_keypoint": 8.1}, {**RECORD, "loss": float("nan")}])
def test_no_number_is_cut_whatever_the_width(monkeypatch, capsys, record):
    whole = {f"{name} {record[name]:.3f}" for name in record if "positives" not in name}
    for columns in range(50, 260, 3):
        line = shown(monkeypatch, capsys, columns, record)
        assert len(line) <= columns
        assert line.endswith("]")
        assert set(re.findall(r"(?:loss|rpn_\w+|head_\w+) [\w.]+", line)) <= whole


def test_a_part_is_said_to_be_all_of_the_loss_only_if_it_is(monkeypatch, capsys):
    record = {"rpn_class": 0.5, "rpn_box": 0.25, "loss": 0.75, "rpn_positives": 1.0, "roi_positives": 0.0}
    assert shown(monkeypatch, capsys, 130, record).endswith("loss 0.750 = rpn_class 0.500 rpn_box 0.250]")
    assert shown(monkeypatch, capsys, 90, record).endswith("loss 0.750 with rpn_class 0.500]")


def test_a_bar_that_is_not_wanted_shows_nothing(monkeypatch, capsys):
    bar = Bar(0, 2, enabled=False)
    bar.show(RECORD, images_per_second=1.0)
    bar.say(1, {"val_loss": 0.5})
    bar.close()
    assert capsys.readouterr().err == ""
