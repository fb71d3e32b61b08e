"""The convention switchboard: pairs, rows, tables, pictures, the command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nets import small_config
from PIL import Image
from scenes import detections_of

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.cli.main import main
from mrcnn_np.compare.trace import trace_ours
from mrcnn_np.conventions.report import as_dict, markdown, text, write_report
from mrcnn_np.conventions.switchboard import (
    IMPOSSIBLE,
    MOVES,
    NOTHING,
    TRAINING,
    first_change,
    pair_detections,
    switchboard,
)
from mrcnn_np.conventions.switchboard import _moved as moved
from mrcnn_np.conventions.table import FRAMEWORKS, Flip, flips, in_words, markdown_table, own_sizes
from mrcnn_np.errors import ConfigError
from mrcnn_np.synthetic import generated_sample, params_that_detect, picture

NAMES = ("background", "circle", "square", "triangle")
FLIP = Flip("roi_aligned", {"roi_aligned": False}, "yes", "no", "torchvision")


@pytest.fixture(scope="module")
def model():
    config = small_config()
    return MaskRCNN(config, params_that_detect(config))


@pytest.fixture(scope="module")
def board(model):
    return switchboard(model, generated_sample(model.config, 5), score=0.3)


# --- pairs ---


def test_pairs_by_class_and_overlap():
    a = detections_of([[0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]], [0.9, 0.8, 0.7], [1, 1, 2])
    b = detections_of([[0, 0, 10, 8.5], [0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.8, 0.7], [1, 1, 3])
    # Crosswise, although the first of each has the best score; the third has another class
    assert pair_detections(a, b) == [(0, 1), (1, 0)]


def test_the_sum_of_overlaps_decides_not_the_first_come():
    # 90 and 100 share most, .9; taken together, .55 and .55 are more than .9 and .05
    a = detections_of([[0, 0, 10, 90], [0, 45, 10, 100]], [0.9, 0.8])
    b = detections_of([[0, 0, 10, 100], [0, 0, 10, 49.5]], [0.9, 0.8])
    assert pair_detections(a, b) == [(0, 1), (1, 0)]


def test_less_than_half_an_overlap_is_no_pair():
    a = detections_of([[0, 0, 10, 10]], [0.9])
    assert pair_detections(a, detections_of([[0, 0, 10, 5]], [0.9])) == [(0, 0)]
    assert pair_detections(a, detections_of([[0, 0, 10, 4.9]], [0.9])) == []
    assert pair_detections(a, detections_of([], [])) == []


def test_one_row_by_hand():
    a = detections_of([[0, 0, 10, 10], [10, 10, 20, 20], [0, 10, 5, 20]], [0.9, 0.5, 0.4])
    b = detections_of([[0, 0, 10, 8], [10, 11, 20, 20], [12, 0, 20, 5]], [0.6, 0.2, 0.35])
    row = moved(FLIP, "rois", a, b, 0.3, False)
    assert (row.kept, row.lost, row.new) == (2, 1, 1)
    assert (row.mean_shift, row.max_shift) == (1.5, 2.0)
    assert row.max_score == pytest.approx(0.3)
    assert row.mean_mask_iou == pytest.approx((0.8 + 0.9) / 2)
    assert row.worst.scores == pytest.approx((0.9, 0.6)) and row.worst.boxes[1].tolist() == [0, 0, 10, 8]
    # A pair counts if one of the two reaches the score
    assert (moved(FLIP, "rois", a, b, 0.55, False).kept, moved(FLIP, "rois", a, b, 0.55, False).lost) == (1, 0)


def test_the_first_tensor_that_changes():
    a = {"molded": np.ones(3), "c2": np.array([1.0, 100.0]), "masks": np.array([True])}
    assert first_change(a, dict(a), 0.0) == ""
    b = a | {"c2": np.array([1.001, 100.0]), "masks": np.array([False])}
    assert first_change(a, b, 0.0) == "c2"
    assert first_change(a, b, 1e-4) == "masks"  # 0.001 of 100 is rounding
    assert first_change(a, a | {"molded": np.ones(4)}, 0.1) == "molded"
    assert first_change(a, {"molded": np.ones(3)}, 0.1) == "c2"


# --- the list of flips ---


def test_a_framework_is_flipped_to_the_others_and_never_to_itself():
    for name in FRAMEWORKS:
        config = presets.by_name(name)
        assert not own_sizes(config)
        for flip in flips(config):
            changed = config.replace(**flip.changes)
            assert changed != config
            assert name not in flip.whose


def test_sizes_of_a_small_network_are_left_alone_unless_asked_for():
    config = presets.tiny()
    assert "rpn_channels" in own_sizes(config) and "roi_canonical_level" not in own_sizes(config)
    assert not {flip.field for flip in flips(config)} & set(own_sizes(config))
    assert [flip.changes for flip in flips(config, ["rpn_channels"])] == [{"rpn_channels": 512}, {"rpn_channels": 256}]


def test_a_mean_goes_with_its_scale():
    (flip,) = (f for f in flips(presets.matterport(), ["pixel_scale"]) if f.whose == "torchvision")
    assert flip.field == "pixel_mean" and flip.changes["pixel_scale"] == 255.0
    assert flip.changes["pixel_std"] == (0.229, 0.224, 0.225)


def test_fields_that_cannot_be_flipped():
    with pytest.raises(ConfigError, match="unknown config field 'roi_alignd'; did you mean 'roi_aligned'"):
        flips(presets.tiny(), ["roi_alignd"])
    with pytest.raises(ConfigError, match="momentum is no convention"):
        flips(presets.tiny(), ["momentum"])


@pytest.mark.parametrize(
    "value, words", [(None, "none"), (True, "yes"), (1 / 9, "0.1111"), ((1.0, 2), "(1, 2)"), (0, "0"), ("pil", "pil")]
)
def test_values_in_words(value, words):
    assert in_words(value) == words


# --- the board ---


def test_every_kind_of_row_is_there(board):
    effects = {row.flip.field: row.effect for row in board.rows}
    assert effects["roi_aligned"] == effects["anchor_offset"] == effects["mask_paste"] == MOVES
    assert effects["rpn_smooth_l1_beta"] == effects["gt_joins_proposals"] == TRAINING
    assert effects["stride_in_1x1"] == NOTHING  # basic blocks have no 1x1
    assert len(board.baseline.scores) >= 5


def test_the_first_tensor_is_where_the_convention_acts(board):
    first = {row.flip.field: row.first for row in board.rows}
    expected = {
        "channel_order": "molded", "bn_eps": "c1", "anchor_offset": "anchors.p2", "roi_aligned": "box_features",
        "box_frame": "proposals", "detection_classes": "detection_boxes", "mask_paste": "masks",
        "mask_resize": "gt_masks", "rpn_smooth_l1_beta": "rpn_box", "mask_target_rounded": "mask_targets",
    }  # fmt: skip
    assert {field: first[field] for field in expected} == expected


def test_conversions_move_nothing(board):
    converted = [row for row in board.rows if row.converted]
    assert {row.flip.field for row in converted} == {"conv_bias", "rpn_objectness", "box_head", "mask_head_norm"}
    for row in converted:
        assert (row.lost, row.new) == (0, 0) and row.kept >= 5
        assert row.max_shift < 1e-3 and row.max_score < 1e-5 and row.mean_mask_iou > 0.999


def test_a_paste_moves_masks_only(board):
    for row in board.rows:
        if row.flip.field == "mask_paste":
            assert row.max_shift == row.max_score == 0 and row.mean_mask_iou < 1


def test_a_training_row_compares_losses(board):
    (row,) = (r for r in board.rows if r.flip.field == "head_smooth_l1_beta" and r.flip.new == "0")
    unchanged = [name for name, (before, after) in row.losses.items() if before == after]
    assert unchanged == ["rpn_class", "rpn_box", "head_class", "head_mask"]
    assert row.losses["head_box"][1] > row.losses["head_box"][0]  # L1 lies above smooth L1


def test_the_network_is_left_as_it_was(model):
    copy = {name: p.copy() for name, p in model.params.items()}
    switchboard(model, generated_sample(model.config), ["roi_aligned", "bn_mode"])
    for name, p in model.params.items():
        np.testing.assert_array_equal(p, copy[name])


def test_an_image_without_objects(model):
    board = switchboard(model, picture((50, 64)), ["gt_joins_proposals", "rpn_channels", "roi_aligned"])
    effects = {row.flip.field: row.effect for row in board.rows}
    assert effects == {"rpn_channels": IMPOSSIBLE, "gt_joins_proposals": NOTHING, "roi_aligned": MOVES}
    written = text(board, NAMES, "title")
    assert "rpn.conv.w is (3, 3, 8, 8), expected (3, 3, 8, 512) and 3 more" in written
    assert "the image needs annotated objects: gt_joins_proposals (yes to no)." in written


def test_numbers_that_overflow_are_a_row_not_the_end(model):
    # The stem's output just fits float32; with pixels 65 times as large it does not
    params = {name: p.copy() for name, p in model.params.items()}
    largest = trace_ours(model, picture((50, 64)))["c1"].max()
    factor = np.float32(2e37 / largest)
    for name in ("gamma", "beta"):
        params[f"backbone.stem.bn.{name}"] *= factor
    for name in ("conv1", "shortcut.conv"):
        params[f"backbone.c2.0.{name}.w"] /= factor
    board = switchboard(MaskRCNN(model.config, params), picture((50, 64)), ["pixel_mean", "mask_paste"])
    effects = {(row.flip.field, row.flip.whose): row.effect for row in board.rows}
    assert effects["pixel_mean", "torchvision"] == effects["mask_paste", "torchvision"] == MOVES
    assert effects["pixel_mean", "matterport"] == IMPOSSIBLE
    assert "holds NaN or infinity" in text(board, NAMES, "title")


def test_no_detection_at_all(model, tmp_path):
    silent = MaskRCNN(model.config.replace(detection_score_threshold=1.0), model.params)
    board = switchboard(silent, generated_sample(model.config), ["roi_aligned", "anchor_offset"])
    assert "finds 0 detections with a score of 0.3 or more: nothing" in write_report(tmp_path, board, NAMES, "none")
    assert {p.name for p in tmp_path.iterdir()} >= {"conventions.png", "crops.png"}


def test_two_runs_are_equal(model, board):
    again = switchboard(model, generated_sample(model.config, 5), score=0.3)
    assert as_dict(again, NAMES) == as_dict(board, NAMES)


def test_the_generated_image_has_objects_and_asks_for_padding():
    for name in ("tiny", "torchvision", "matterport"):
        config = presets.by_name(name)
        sample = generated_sample(config, 5)
        height, width = sample.image.shape[:2]
        assert len(sample.gt_boxes) >= 3 and sample.gt_masks.any(axis=(1, 2)).all()
        assert height < width <= 640 and width != config.image_max_size


# --- tables and pictures ---


def test_tables_hold_every_row(board):
    for written in (text(board, NAMES, "a title"), markdown(board, NAMES, "a title")):
        assert written.startswith("a title.\n")
        for row in board.rows:
            assert row.flip.field in written
    lines = [line for line in markdown(board, NAMES, "t").splitlines() if line.startswith("| `roi_aligned`")]
    assert len(lines) == 1 and lines[0].count("|") == 13


def test_it_is_said_why_more_are_kept_than_were_found(board):
    """A pair counts as soon as one of its scores does; the table would seem to contradict the line above it."""
    why = "A pair is kept if either of its scores, before or after, is 0.3 or more"
    rows = [row for row in board.rows if row.effect == MOVES]
    for kept, said in ((len(board.baseline) + 1, True), (len(board.baseline), False)):
        shown = replace(board, rows=[replace(rows[0], kept=kept, lost=0)])
        for written in (text(shown, NAMES, "a title"), markdown(shown, NAMES, "a title")):
            assert (f"{why}, so kept and lost may be more than the {len(board.baseline)} above." in written) == said


def test_what_is_written_is_whole(board, tmp_path):
    write_report(tmp_path, board, NAMES, "a title")
    found = json.loads((tmp_path / "conventions.json").read_text())
    assert len(found["rows"]) == len(board.rows) and found["title"] == "a title"
    moved_rows = [row for row in found["rows"] if row["effect"] == MOVES and row["kept"]]
    assert all(row["max_shift"] >= row["mean_shift"] >= 0 for row in moved_rows)
    for name in ("conventions.png", "crops.png"):
        with Image.open(tmp_path / name) as picture_file:
            assert min(picture_file.size) > 200
            assert len(np.unique(np.asarray(picture_file.convert("RGB")).reshape(-1, 3), axis=0)) > 20


# --- the command ---


def test_the_command_on_random_weights(tmp_path, capsys):
    small = [f"--config={field}={value}" for field, value in (("image_min_size", 64), ("image_max_size", 64))]
    out = tmp_path / "out"
    assert main(["conventions", *small, "--only", "roi_aligned", "--out", str(out), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "random weights, preset tiny on a generated image of shapes, seed 5" in printed
    assert "roi_aligned" in printed and "anchor_offset" not in printed
    assert sorted(p.name for p in out.iterdir()) == [
        "conventions.json",
        "conventions.md",
        "conventions.png",
        "crops.png",
    ]


def test_the_command_on_an_image_file(tmp_path, capsys):
    Image.fromarray(picture((50, 64))).save(tmp_path / "photo.png")
    arguments = [str(tmp_path / "photo.png"), "--only", "mask_paste", "--out", str(tmp_path / "out"), "--quiet"]
    assert main(["conventions", *arguments]) == 0
    assert f"{tmp_path / 'photo.png'}, 50 x 64 pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--only", "roi_alignd"], "did you mean 'roi_aligned'"),
        (["--only", "steps"], "steps is no convention"),
        (["--config", "roi_reduce=min"], "roi_reduce is 'min'; expected 'mean' or 'max'"),
        (["no such image.png"], "no such image.png"),
        (["--run", "no such run"], "no such run"),
        (["--weights", "no such file"], "no such file"),
    ],
)
def test_what_a_user_can_mend_is_one_message(arguments, message, tmp_path, capsys):
    assert main(["conventions", *arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert any(line.startswith("error: ") for line in error.splitlines())  # kernels may be compiled before
    assert message in error and "Traceback" not in error


def test_the_list_is_what_the_documentation_holds(capsys):
    assert main(["conventions", "--list"]) == 0
    assert capsys.readouterr().out == markdown_table()
    document = (Path(__file__).parents[2] / "docs" / "conventions.md").read_text()
    assert markdown_table() in document, "write `mrcnn-np conventions --list` into docs/conventions.md"
