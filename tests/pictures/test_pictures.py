"""Pictures: colours where they belong, text that cannot fail, degenerate input, and the same bytes every time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import fill, sample_of

from mrcnn_np.data.masks import in_runs
from mrcnn_np.detections import Detections
from mrcnn_np.errors import UserError
from mrcnn_np.evaluate import evaluate_detections
from mrcnn_np.keypoints.pose import Pose, Skeletons
from mrcnn_np.pictures import overlay
from mrcnn_np.pictures.canvas import (
    PALETTE,
    add_axes,
    add_text,
    add_title,
    as_rgb,
    fit_size,
    new_figure,
    pixels,
    shorten,
    shorten_middle,
)
from mrcnn_np.pictures.curves import running_mean
from mrcnn_np.pictures.instances import (
    draw_instances,
    draw_on,
    gallery,
    plot_losses,
    plot_precision_recall,
    save_anchors,
    save_comparison,
    save_gallery,
    save_proposals,
)
from mrcnn_np.pictures.labels import _free_place
from mrcnn_np.pictures.overlay import _outline, legend, legend_height

NAMES = ("background", "cat", "dog")
pytestmark = pytest.mark.filterwarnings("error")  # no overflow, no missing letter: nothing may warn


def make_pair(boxes=((10, 10, 40, 50), (60, 60, 100, 120)), shape=(128, 128), name="im"):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    masks = fill(boxes, shape)
    ids = np.arange(len(boxes)) % 2 + 1
    flags = np.arange(len(boxes)) % 2 == 1
    grey = np.full((*shape, 3), 90, np.uint8)
    sample = sample_of(boxes, ids, shape=shape, name=name, image=grey, crowd=flags, difficult=~flags)
    return sample, Detections(boxes, ids, np.linspace(0.97, 0.3, len(boxes)), masks)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def rgb(colour):
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


# --- draw_instances ---


def test_a_skeleton_is_drawn_where_both_ends_are_known():
    """Black without, the instance's colour along the line from one keypoint to the other; none to the hidden one."""
    pose = Pose(("a", "b", "c"), ((0, 1), (1, 2)))
    points = np.array([[[20, 20, 2], [20, 100, 1], [100, 100, 0]]])
    image, boxes = np.zeros((128, 128, 3), np.uint8), np.array([[4.0, 4, 124, 124]])
    skeletons = Skeletons.of(points, points[..., 2] > 0, pose)
    drawn = draw_instances(image, boxes, np.array([1]), None, NAMES, size=128, skeletons=skeletons)
    left = (drawn.shape[1] - 128) // 2
    line, other = drawn[20, left + 40 : left + 80], drawn[40:80, left + 100]
    assert (np.abs(line.astype(int) - rgb(PALETTE[0])).max(axis=1) < 60).all() and not other.any()


def test_masks_are_half_transparent_in_the_colour_of_the_instance():
    sample, found = make_pair()
    picture = draw_instances(sample.image, found.boxes, found.class_ids, found.masks, NAMES, scores=found.scores)
    assert picture.shape == (640, 640, 3)
    assert picture.dtype == np.uint8
    for i, (y, x) in enumerate([(30, 40), (80, 90)]):  # inside the masks, away from labels
        expected = 0.5 * 90 + 0.5 * rgb(PALETTE[i])
        np.testing.assert_allclose(picture[y * 5 + 2, x * 5 + 2], expected, atol=1.5)
    np.testing.assert_array_equal(picture[120 * 5, 5 * 5], [90, 90, 90])


def test_outlines_alone_leave_the_image_to_be_seen():
    """Without masks they are those of the boxes."""
    sample, found = make_pair()
    args = (sample.image, found.boxes, found.class_ids)
    plain = draw_instances(*args, None, NAMES, scores=found.scores, outlines=True)
    picture = draw_instances(*args, found.masks, NAMES, scores=found.scores, outlines=True)
    assert picture.shape == plain.shape == (640, 640, 3)
    empty = draw_instances(sample.image, np.zeros((0, 4)), np.zeros(0, int), None, NAMES)
    for drawn in (picture, plain):
        changed = (drawn != empty).any(axis=2)
        assert 0 < changed.mean() < 0.03  # no fill, no label
        for y, x in [(30, 40), (80, 90)]:
            assert not changed[y * 5 - 5 : y * 5 + 8, x * 5 - 5 : x * 5 + 8].any()
    assert (picture != plain).any()


def test_boxes_are_half_open_in_pixels_of_the_image():
    # The box [10, 40) x [10, 50) at 5 picture pixels per pixel: its lines are centred on 50 and 200, 50 and 250.
    sample, found = make_pair()
    picture = draw_instances(sample.image, found.boxes[:1], found.class_ids[:1], None, NAMES).astype(int)
    same = (np.abs(picture - rgb(PALETTE[0])).sum(axis=2) < 40)[:, 200]  # a column right of the label
    lines = np.flatnonzero(same)
    assert set(np.abs(lines[:, None] + 0.5 - [50, 200]).min(axis=1) <= 1.5) == {True}
    assert (lines < 60).any()
    assert (lines > 190).any()


def test_the_best_instance_lies_on_top():
    boxes = [(10, 10, 100, 100), (10, 10, 100, 100)]
    sample, found = make_pair(boxes)
    picture = draw_instances(sample.image, found.boxes, found.class_ids, found.masks, NAMES)
    second = 0.5 * 90 + 0.5 * rgb(PALETTE[1])
    np.testing.assert_allclose(picture[400, 400], 0.5 * second + 0.5 * rgb(PALETTE[0]), atol=1.5)


def test_a_title_adds_a_strip_and_a_path_saves_the_same_picture(tmp_path):
    sample, found = make_pair()
    path = tmp_path / "new" / "picture.png"
    picture = draw_instances(
        sample.image, found.boxes, found.class_ids, found.masks, NAMES, scores=found.scores, title="im", path=path
    )
    assert picture.shape == (660, 640, 3)
    assert (picture[:20] < 128).any()  # letters
    np.testing.assert_array_equal(read(path), picture)


def test_labels_carry_class_and_score_and_flags():
    sample, found = make_pair()
    figure = new_figure(400, 400)
    ax = add_axes(figure, 0, 0, 400, 400)
    draw_on(ax, sample.image, found.boxes, np.array([1, 7]), found.masks, NAMES, scores=found.scores)
    assert [text.get_text() for text in ax.texts] == ["cat 0.97", "class 7 0.30"]
    ax = add_axes(figure, 0, 0, 400, 400)
    draw_on(ax, sample.image, found.boxes, found.class_ids, None, NAMES, captions=["a", "b"])
    assert [text.get_text() for text in ax.texts] == ["a", "b"]


def labels_of(boxes, scores=None, names=NAMES, size=400):
    """Draw so many objects of class 1 and return the labels with the size of their letters."""
    figure = new_figure(size, size)
    ax = add_axes(figure, 0, 0, size, size)
    image, ids = np.zeros((400, 400, 3), np.uint8), np.ones(len(boxes), int)
    labelled = draw_on(ax, image, np.array(boxes, float), ids, None, names, scores=scores)
    assert labelled == bool(ax.texts)
    return [(text.get_text(), text.get_fontsize()) for text in ax.texts]


def test_the_name_of_the_only_class_is_left_out():
    assert labels_of([(10, 10, 90, 90)], [0.512], ("background", "cell")) == [("0.51", 8)]
    figure = new_figure(400, 400)
    ax = add_axes(figure, 0, 0, 400, 400)
    sample, found = make_pair()
    ids = np.ones(2, int)
    draw_on(ax, sample.image, found.boxes, ids, None, ("background", "cell"), captions=["", "(crowd)"])
    assert [text.get_text() for text in ax.texts] == ["(crowd)"]
    assert draw_instances(sample.image, found.boxes, ids, found.masks, ("background", "cell")).shape == (640, 640, 3)


def test_labels_do_not_hide_many_small_objects():
    corners = [(y, x) for y in range(0, 400, 80) for x in range(0, 400, 80)]
    large, middle, small = ([(y, x, y + side, x + side) for y, x in corners] for side in (70, 40, 12))
    scores = np.linspace(0.9, 0.5, 25)
    assert {points for _, points in labels_of(large, scores)} == {8}
    assert {points for _, points in labels_of(middle, scores)} == {8 * 0.7}
    assert labels_of(small, scores) == []
    assert len(labels_of(small[:8], scores[:8])) == 8  # few objects are always named
    assert labels_of([(5, 5, 5, 5)] * 9, scores[:9]) == []
    few = [(y, x, y + 26, x + 26) for y, x in corners[:11]]  # in a picture with room between them
    assert {points for _, points in labels_of(few, scores[:11])} == {8 * 0.7}
    names = ("background", "nucleus")  # the scores of twenty have room; more would be all that one sees
    many = [(y, x, y + 19, x + 19) for y, x in corners]
    assert len(labels_of(many[:20], scores[:20], names)) == 20 and labels_of(many[:21], scores[:21], names) == []


def test_dashes_are_explained_where_colours_repeat(tmp_path):
    boxes = [(5, 14 * k, 40, 14 * k + 10) for k in range(9)]
    for count, strip in ((7, 0), (8, 20)):
        sample, found = make_pair(boxes[:count])
        picture = draw_instances(sample.image, found.boxes, found.class_ids, found.masks, NAMES, title="im")
        assert picture.shape == (660 + strip, 640, 3)
        assert (picture[660:] < 128).any() == bool(strip)  # letters
        strip = legend_height(count, 2 * 256 + 2 * 8)
        assert read(save_gallery(tmp_path / "g.png", [sample], [found], NAMES)).shape[0] == 256 + 20 + 2 * 8 + strip


@pytest.mark.parametrize("width", [156, 300, 636])
def test_what_dashes_mean_is_broken_between_words_and_fits(width):
    for labelled in (True, False):
        figure, told = new_figure(width, legend_height(8, width)), legend(labelled, width)
        words = "solid or dashed only tells objects of one colour apart" + (
            "" if labelled else "; no labels where they would hide the objects"
        )
        assert " ".join(told.splitlines()) == words
        box = add_text(figure, 0, 1, told, va="top").get_window_extent(figure.canvas.get_renderer())
        assert box.width <= width and box.height <= legend_height(8, width)
    assert legend_height(7, width) == 0 and (legend_height(8, width) == 20) == (width > 600)


@pytest.mark.parametrize("name", ["0" * 64, "W" * 64, "a_name"])
def test_a_long_title_is_cut_in_its_middle_until_it_fits(name):
    figure = new_figure(300, 50)
    add_title(figure, 0.5, 0.5, name, ": detections (8)", 290, ha="center")
    (text,) = figure.texts
    assert text.get_window_extent(figure.canvas.get_renderer()).width <= 290
    start, _, end = text.get_text().partition("…")
    assert (end or start).endswith(f"{name[-1]}: detections (8)") and start[0] == name[0]
    assert (start == "a_name: detections (8)") == (name == "a_name")


def test_labels_stay_inside_and_apart_while_there_is_room():
    placed = []
    for box in np.array([[0, 0, 50, 50], [0, 0, 50, 50], [195, 195, 260, 260], [-50, -50, -10, -10], [0, 5, 40, 45]]):
        x, y = _free_place(box, 60, 15, (0, 0, 200, 200), placed, box[None])
        assert 0 <= x <= 140
        assert 0 <= y <= 185
    for i, a in enumerate(placed):
        for b in placed[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_a_second_label_of_a_small_object_goes_below_it():
    boxes, placed = np.array([[80, 80, 100, 105], [80, 80, 100, 105], [80, 110, 100, 135]]), []
    places = [_free_place(box, 60, 15, (0, 0, 200, 200), placed, boxes) for box in boxes]
    assert places == [(80, 65), (80, 100), (110, 50)], "none hides its own object, or that beside it"
    large, placed = np.array([[0, 0, 150, 150]]), []
    assert _free_place(large[0], 60, 15, (0, 0, 200, 200), placed, large) == (0, 0), "which a label hides little of"


def test_the_outline_follows_the_borders_of_pixels():
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    segments = {tuple(map(tuple, s)) for s in _outline(mask).tolist()}
    assert segments == {((2, 1), (3, 1)), ((2, 2), (3, 2)), ((2, 1), (2, 2)), ((3, 1), (3, 2))}
    assert len(_outline(np.ones((1, 1), bool))) == 4
    assert _outline(np.zeros((2, 2), bool)).shape == (0, 2, 2)
    assert len(_outline(np.ones((3, 5), bool))) == 2 * (3 + 5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (400, 3), (7, 5)])
def test_degenerate_images(shape, tmp_path):
    sample, found = make_pair([(0, 0, *shape)], shape)
    picture = draw_instances(
        sample.image, found.boxes, found.class_ids, found.masks, NAMES, scores=found.scores, title="t"
    )
    assert picture.shape[1] >= 160
    none, nothing = make_pair([], shape)
    draw_instances(none.image, nothing.boxes, nothing.class_ids, nothing.masks, NAMES)
    save_comparison(tmp_path / "a.png", sample, found, NAMES)
    save_comparison(tmp_path / "b.png", none, nothing, NAMES)


def test_boxes_that_leave_the_image_do_not_change_its_size():
    sample, _ = make_pair()
    boxes = np.array([[-30, -30, 20, 20], [100, 100, 300, 400], [500, 500, 600, 600], [50, 50, 50, 50]], np.float64)
    picture = draw_instances(sample.image, boxes, np.ones(4, int), None, NAMES)
    assert picture.shape == (640, 640, 3)
    np.testing.assert_array_equal(picture[300, 30], [90, 90, 90])


def test_any_text_can_be_a_class_name(tmp_path):
    names = ("background", "飞机", "_größe $x_1$", "\\frac{", "سيارة", "a" * 300, "", "line\nbreak")
    sample, found = make_pair([(i * 15, i * 12, i * 15 + 20, i * 12 + 20) for i in range(7)])
    ids = np.arange(1, 8)
    sample, found = sample.replace(gt_class_ids=ids), Detections(found.boxes, ids, found.scores, found.masks)
    draw_instances(sample.image, found.boxes, ids, found.masks, names, scores=found.scores, title="标题 $\\frac{ _")
    save_gallery(tmp_path / "g.png", [sample.replace(image_id="图 $_{")], [found], names)
    evaluation = evaluate_detections(
        [found], [sample.replace(gt_crowd=ids < 0, gt_difficult=ids < 0)], class_names=names
    )
    plot_precision_recall(tmp_path / "p.png", evaluation)


def test_float_and_grey_images_and_what_is_refused():
    np.testing.assert_array_equal(as_rgb(np.array([[0.0, 0.5, 2.0]]))[0, :, 1], [0, 128, 255])
    assert as_rgb(np.zeros((2, 3), np.uint8)).shape == (2, 3, 3)
    for bad in (np.zeros((2, 2, 4)), np.zeros((0, 4, 3)), np.zeros(3)):
        with pytest.raises(ValueError, match=r"expected \(H, W, 3\)"):
            as_rgb(bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_ids": np.ones(3, int)}, "3 class_ids for 2 boxes"),
        ({"scores": np.ones(1)}, "1 scores for 2 boxes"),
        ({"masks": np.zeros((2, 64, 128), bool)}, r"masks has shape \(2, 64, 128\); expected \(2, 128, 128\)"),
    ],
)
def test_what_does_not_belong_together_is_refused(change, message):
    sample, found = make_pair()
    given = {"boxes": found.boxes, "class_ids": found.class_ids, "masks": found.masks, "scores": None, **change}
    with pytest.raises(ValueError, match=message):
        draw_instances(sample.image, class_names=NAMES, **given)


def test_input_is_not_modified():
    sample, found = make_pair()
    image, boxes, masks = sample.image.copy(), found.boxes.copy(), found.masks.copy()
    draw_instances(sample.image, found.boxes, found.class_ids, found.masks, NAMES)
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(found.boxes, boxes)
    np.testing.assert_array_equal(found.masks, masks)


# --- galleries ---


def test_a_comparison_shows_truth_left_and_detections_right(tmp_path):
    sample, found = make_pair()
    empty = Detections(found.boxes[:0], found.class_ids[:0], found.scores[:0], found.masks[:0])
    picture = read(save_comparison(tmp_path / "c.png", sample, empty, NAMES))
    half = picture.shape[1] // 2
    coloured = np.ptp(picture[20:].astype(int), axis=2) > 30
    assert coloured[:, :half].sum() > 10000
    assert not coloured[:, half:].any()


def test_a_number_stands_beside_the_name_of_its_file():
    sample, found = make_pair()
    sample = sample.replace(image_id="139", path="val2017/000000000139.jpg")
    titles = [text.get_text() for text in gallery([sample], [found], NAMES).texts]
    assert any(title.startswith("139 (000000000139.jpg): ground truth") for title in titles)


def test_void_pixels_are_pale_in_the_ground_truth_only(tmp_path):
    sample, found = make_pair([])
    void = np.zeros((128, 128), bool)
    void[40:80, 40:80] = True
    picture = read(save_comparison(tmp_path / "c.png", sample.replace(void=void), found, NAMES))
    half = picture.shape[1] // 2
    assert (picture[200:300, :half] > 150).all(axis=2).any()
    assert not ((picture[200:300, half + 20 : -20] > 100).all(axis=2)).any()


def test_a_gallery_has_a_row_for_every_columns_pairs(tmp_path):
    pairs = [make_pair(shape=(60, 90), name=str(i)) for i in range(5)]
    samples, detections = zip(*pairs)
    one = read(save_gallery(tmp_path / "1.png", samples[:1], detections[:1], NAMES, columns=3, size=180))
    many = read(save_gallery(tmp_path / "5.png", samples, detections, NAMES, columns=3, size=180))
    assert abs(many.shape[1] - 3 * one.shape[1]) <= 2
    assert one.shape[0] + 100 < many.shape[0] <= 2 * one.shape[0]


def test_a_gallery_of_nothing_and_of_unequal_lists(tmp_path):
    assert save_gallery(tmp_path / "0.png", [], [], NAMES).is_file()
    sample, found = make_pair()
    with pytest.raises(ValueError, match="2 samples and 1 detections"):
        save_gallery(tmp_path / "x.png", [sample, sample], [found], NAMES)
    with pytest.raises(ValueError, match="columns is 0"):
        save_gallery(tmp_path / "x.png", [sample], [found], NAMES, columns=0)
    with pytest.raises(ValueError, match="expected at most"):
        save_gallery(tmp_path / "x.png", [sample] * 200, [found] * 200, NAMES, columns=1)
    assert not (tmp_path / "x.png").exists()


# --- curves and regions ---


def test_running_mean_table():
    np.testing.assert_allclose(running_mean(np.array([1, 2, 3, 4.0]), 2), [1, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(running_mean(np.array([np.nan, 2, np.nan, np.nan, 4.0]), 2), [np.nan, 2, 2, np.nan, 4])
    np.testing.assert_array_equal(running_mean(np.zeros(0), 3), [])
    with pytest.raises(ValueError, match="window is 0"):
        running_mean(np.zeros(2), 0)


def test_losses_tolerate_missing_and_broken_values(tmp_path):
    keys = ("loss", "rpn_class", "rpn_box", "head_class", "head_box", "head_mask", "learning_rate")
    full = [{"step": i, **dict.fromkeys(keys, 3.0 / (i + 1))} for i in range(200)]
    for i, rows in enumerate(
        [
            full,
            [],
            [{"step": 1, "loss": 2.0}],
            [{"loss": 1.0}, {"loss": None, "rpn_box": "x"}, {"loss": float("nan"), "head_box": float("inf")}],
            [{"step": i, "loss": -1.0, "head_mask": 0.0} for i in range(3)],
            iter(full[:2]),
        ]
    ):
        assert read(plot_losses(tmp_path / f"{i}.png", rows)).shape == (760, 900, 3)


def test_precision_recall_of_many_few_and_no_classes(tmp_path):
    names = ("background", *(f"class {i}" for i in range(1, 31)))
    sample, found = make_pair()
    sample = sample.replace(gt_crowd=np.zeros(2, bool), gt_difficult=np.zeros(2, bool))
    samples = [sample.replace(gt_class_ids=np.array([i, 31 - i])) for i in range(1, 31)]
    many = evaluate_detections([found] * 30, samples, class_names=names)
    assert read(plot_precision_recall(tmp_path / "many.png", many)).shape[1] > 900
    few = evaluate_detections([found], [sample], class_names=NAMES)
    none = evaluate_detections([], [], class_names=NAMES)
    missed = evaluate_detections([make_pair([])[1]], [sample], class_names=NAMES)
    for name, evaluation in (("few", few), ("none", none), ("missed", missed)):
        assert plot_precision_recall(tmp_path / f"{name}.png", evaluation).is_file()


def test_anchors_positive_by_iou_or_by_being_the_best(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "mrcnn_np.pictures.regions.add_box", lambda ax, box, colour, **style: drawn.append((tuple(box), colour))
    )
    objects = np.array([[0, 0, 10, 10], [50, 50, 70, 70]], np.float32)
    levels = [
        np.array([[0, 0, 10, 9], [0, 0, 5, 5], [0, 1, 10, 10]], np.float32),  # .9, .25, .9 with object 0
        np.array([[50, 50, 60, 70], [90, 90, 99, 99]], np.float32),  # .5 with object 1: its best
        np.zeros((0, 4), np.float32),
    ]
    save_anchors(tmp_path / "a.png", np.zeros((100, 100, 3), np.uint8), levels, objects)
    assert drawn[:3] == [
        ((0, 0, 10, 9), PALETTE[0]), ((0, 1, 10, 10), PALETTE[0]), ((50, 50, 60, 70), PALETTE[1]),
    ]  # fmt: skip
    assert [colour for _, colour in drawn[3:]] == ["white", "white"]


def test_regions_of_nothing_and_outside(tmp_path):
    none, image = np.zeros((0, 4)), np.zeros((1, 1, 3), np.uint8)
    save_anchors(tmp_path / "a.png", image, [], none)
    save_anchors(tmp_path / "b.png", image, [none, none], np.array([[0, 0, 1, 1]]))
    save_proposals(tmp_path / "c.png", image, none, np.zeros(0), none)
    image = np.zeros((50, 80, 3))
    save_anchors(tmp_path / "d.png", image, [np.array([[-90, -90, 90, 90]])], np.array([[0, 0, 50, 80]]))
    save_proposals(tmp_path / "e.png", image, np.array([[-9, -9, 9, 9]]), np.array([0.5]), none)
    with pytest.raises(ValueError, match=r"expected \(2,\)"):
        save_proposals(tmp_path / "f.png", image, np.zeros((2, 4)), np.zeros(3), none)


def test_only_the_best_proposals_are_drawn_the_best_last(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("mrcnn_np.pictures.regions.add_box", lambda ax, box, *rest, **style: drawn.append(box[0]))
    proposals = np.stack([[i, 0, i + 5, 5] for i in range(10)])
    scores = np.array([0.1, 0.9, 0.2, 0.8, 0, 0, 0, 0.7, 0, 0])
    save_proposals(tmp_path / "p.png", np.zeros((20, 20, 3), np.uint8), proposals, scores, np.zeros((0, 4)), top=3)
    assert drawn == [7, 3, 1]


# --- saving ---


def draw_everything(folder: Path) -> dict[str, bytes]:
    sample, found = make_pair()
    save_gallery(folder / "gallery.png", [sample], [found], NAMES)
    plot_losses(folder / "losses.png", [{"step": i, "loss": 1.0 + i} for i in range(5)])
    plot_precision_recall(folder / "pr.png", evaluate_detections([found], [sample], class_names=NAMES))
    save_anchors(folder / "anchors.png", sample.image, [found.boxes + 1], found.boxes)
    save_proposals(folder / "proposals.png", sample.image, found.boxes, found.scores, found.boxes)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_picture_has_the_same_bytes_and_no_metadata(tmp_path):
    first, second = draw_everything(tmp_path / "a"), draw_everything(tmp_path / "b")
    assert len(first) == 5
    assert first == second
    for name in first:
        with Image.open(tmp_path / "a" / name) as image:
            assert set(image.info) <= {"dpi"}


def test_an_unwritable_place_is_a_user_error_and_leaves_what_was_there(tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    with pytest.raises(UserError, match=r"cannot write into .*file"):
        plot_losses(file / "losses.png", [])
    folder = tmp_path / "folder.png"
    folder.mkdir()
    with pytest.raises(UserError, match=r"cannot write .*folder\.png"):
        plot_losses(folder, [])
    assert file.read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]


def test_sizes_and_text():
    assert fit_size((128, 128), 640) == (640, 640)
    assert fit_size((100, 128), 500) == (300, 384)  # a whole factor
    assert fit_size((375, 500), 640) == (480, 640)
    assert fit_size((5000, 50), 500) == (500, 5)
    assert fit_size((1, 5000), 100) == (1, 100)
    assert shorten("abcdef", 4) == "abc…"
    assert shorten("abc", 3) == "abc"
    assert [shorten_middle("abcdefgh", n) for n in (9, 8, 7, 4, 1, 0)] == [
        "abcdefgh", "abcdefgh", "abc…fgh", "ab…h", "…", "…",
    ]  # fmt: skip


def test_figures_leave_no_global_state():
    code = "import sys, mrcnn_np.pictures.instances; print('matplotlib.pyplot' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert answer.stdout.strip() == "False"
    assert pixels(new_figure(30, 20)).shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [((256, 256), (512, 512)), ((640, 500), (640, 500)), ((700, 1024), (700, 1024)), ((2200, 1100), (2048, 1024))],
)
def test_a_picture_has_a_pixel_for_each_of_the_image_up_to_a_limit(shape, drawn):
    image = np.zeros((*shape, 3), np.uint8)
    image[-3:, -3:] = 255
    picture = draw_instances(image, np.zeros((0, 4)), np.zeros(0, int), None, NAMES)
    assert picture.shape == (*drawn, 3)
    if drawn == shape:
        np.testing.assert_array_equal(picture, image)
    assert max(draw_instances(image, np.zeros((0, 4)), np.zeros(0, int), None, NAMES, size=300).shape) <= 300


def test_letters_grow_with_a_large_picture_but_slower():
    assert [round(overlay.letter_size(side), 1) for side in (160, 640, 1024, 2048, 30000)] == [8, 8, 10.1, 14.3, 16]


@pytest.mark.parametrize("kind", [np.asarray, in_runs])
def test_too_large_images_are_drawn_from_some_of_their_pixels(monkeypatch, kind):
    image, masks = np.zeros((300, 400, 3), np.uint8), np.zeros((1, 300, 400), bool)
    image[:150], masks[:, 60:240, 40:320] = 200, True
    drawing = image, np.array([[60, 40, 240, 320]]), np.array([1]), kind(masks), ("background", "cat")
    whole = overlay.draw_instances(*drawing)
    monkeypatch.setattr(overlay, "_MOST_PIXELS", 1000)
    monkeypatch.setattr(overlay, "_REDUCED", 1 << 14)
    some = overlay.draw_instances(*drawing)
    assert some.shape == whole.shape and (np.abs(some.astype(int) - whole) > 40).mean() < 0.03
