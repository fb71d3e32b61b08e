"""Keypoints in COCO's format: read, written, refused; flipped, turned, cut and scaled with their image."""

import json
import os

import numpy as np
import pytest
from coco_tree import CocoTree

from mrcnn_np.data.augment import augment, cut, flip_horizontal, rescale, turn
from mrcnn_np.data.coco import COCODataset
from mrcnn_np.data.coco_json import instances_of
from mrcnn_np.data.orientation import upright, upright_points
from mrcnn_np.errors import DataError
from mrcnn_np.keypoints.pose import COCO_PERSON, Pose

KINDS = {"keypoints": ["nose", "left_hand", "right_hand"], "skeleton": [[1, 2], [1, 3]]}
POINTS = [5, 6, 2, 8, 9, 1, 0, 0, 0]


@pytest.fixture
def tree(tmp_path):
    made = CocoTree(tmp_path / "coco").image(1)
    made.content["categories"][1] |= KINDS  # the cat's
    return made


def dataset(tree, **options):
    return COCODataset(tree.save(), "train", **options)


def test_they_are_read(tree):
    tree.rectangle(1, 2, 3, 10, 10, keypoints=POINTS, num_keypoints=2).rectangle(1, 15, 4, 20, 8, category=7)
    data = dataset(tree)
    assert data.pose == Pose(("nose", "left_hand", "right_hand"), ((0, 1), (0, 2)))
    sample = data.load(0)
    assert sample.pose is data.pose and sample.gt_keypoints.dtype == np.float64
    assert sample.gt_keypoints.tolist() == [[[6, 5, 2], [9, 8, 1], [0, 0, 0]], [[0, 0, 0]] * 3]
    assert [o.num_keypoints for o in data.instances.objects(1)] == [2, 0]


def test_a_data_set_without(tree):
    del tree.content["categories"][1]["keypoints"]
    sample = dataset(tree.rectangle(1, 2, 3, 10, 10, keypoints=POINTS)).load(0)
    assert sample.gt_keypoints is None and sample.pose is None


def test_an_image_without_objects(tree):
    assert dataset(tree).load(0).gt_keypoints.shape == (0, 3, 3)


def test_they_are_written_and_read_again(tree, tmp_path):
    data = dataset(tree.rectangle(1, 2, 3, 10, 10, keypoints=[5.5, *POINTS[1:]]))
    content = instances_of([data.load(0)], ids=data.ids, class_names=data.class_names, category_ids=data.category_ids)
    assert content["annotations"][0]["keypoints"] == [5.5, *POINTS[1:]]
    assert content["annotations"][0]["num_keypoints"] == 2 and content["categories"][0]["skeleton"] == [[1, 2], [1, 3]]
    (tree.json.parent / "instances_train.json").write_text(json.dumps(content))
    again = COCODataset(tree.root, "train")
    np.testing.assert_array_equal(again.load(0).gt_keypoints, data.load(0).gt_keypoints)


@pytest.mark.parametrize("keypoints, message", [
    (POINTS[:-1], "keypoints has 8 numbers; expected 9: x, y and visibility of 3 keypoints"),
    ([*POINTS[:2], 3, *POINTS[3:]], "keypoints has the visibility 3; expected 0, 1 or 2"),
    ("5 6 2", "keypoints is '5 6 2'; expected a list of numbers"),
    ([None, *POINTS[1:]], "expected a list of numbers"), ([float("nan"), *POINTS[1:]], "expected a list of numbers"),
])  # fmt: skip
def test_broken_keypoints_are_named(tree, keypoints, message):
    tree.rectangle(1, 2, 3, 10, 10, keypoints=keypoints)
    with pytest.raises(DataError) as caught:
        dataset(tree).load(0)
    assert message in str(caught.value) and "annotation 1 of image 1" in str(caught.value)
    assert len(dataset(tree, skip_bad=True).load(0).gt_boxes) == 0


@pytest.mark.parametrize("change, message", [
    ({"keypoints": "nose"}, "category 3 has keypoints 'nose'; expected a list of names"),
    ({"keypoints": ["nose", 4]}, "expected a list of names"),
    ({"keypoints": ["nose", "nose"]}, "has 2 keypoints; expected at most 1000, every name once"),
    ({"skeleton": [[1, 4]]}, "has [1, 4] in its skeleton; expected two numbers from 1 to 3"),
    ({"skeleton": "1-2"}, "has the skeleton '1-2'; expected a list of pairs of numbers"),
    ({"skeleton": [[1]]}, "has [1] in its skeleton"), ({"skeleton": [3]}, "has 3 in its skeleton"),
])  # fmt: skip
def test_broken_categories_are_refused(tree, change, message):
    tree.content["categories"][1] |= change
    with pytest.raises(DataError) as caught:
        dataset(tree)
    assert message in str(caught.value)


def test_two_kinds_of_skeletons_are_left_out(tree):
    tree.content["categories"][0]["keypoints"] = ["head"]
    data = dataset(tree.rectangle(1, 2, 3, 10, 10, keypoints=POINTS))
    assert data.pose is None and data.load(0).gt_keypoints is None
    assert any("different keypoints" in line for line in data.notes.lines())


def test_an_annotation_with_a_box_alone(tree):
    tree.rectangle(1, 2, 3, 10, 12, segmentation=..., keypoints=POINTS)
    data = dataset(tree)
    sample = data.load(0)
    assert np.asarray(sample.gt_masks)[0, 3:15, 2:12].all() and sample.gt_masks.areas.tolist() == [120]
    assert any("taken for all of its box" in line for line in data.notes.lines())


def test_the_file_of_persons_is_found_if_it_is_all_there_is(tree):
    tree.rectangle(1, 2, 3, 10, 10, keypoints=POINTS)
    root = tree.save()
    tree.json.rename(tree.json.with_name("person_keypoints_train2017.json"))
    (root / "images" / "train").rename(root / "images" / "train2017")
    assert COCODataset(root, "train").load(0).gt_keypoints.shape == (1, 3, 3)
    assert COCODataset.recognise(root) is not None
    tree.json.with_name("instances_train2017.json").write_text(json.dumps(tree.content | {"annotations": []}))
    assert len(COCODataset(root, "train").load(0).gt_boxes) == 0
    assert len(COCODataset(root, "person_keypoints_train2017").load(0).gt_boxes) == 1


# --- augmentation ---


def points_in(sample):
    """A picture that is black but for the pixel of each annotated keypoint, of a grey of its own."""
    for k, (y, x, visible) in enumerate(sample.gt_keypoints[0]):
        if visible:
            sample.image[int(y), int(x)] = 50 * (k + 1)
    return sample


def lit(sample):
    return {int(v): (int(y), int(x)) for y, x in np.argwhere(sample.image[..., 0]) for v in [sample.image[y, x, 0]]}


@pytest.fixture
def sample(tree):
    tree.rectangle(1, 2, 3, 20, 20, keypoints=[5, 6, 2, 8, 9, 1, 12, 7, 2])
    found = dataset(tree).load(0)
    return points_in(found.replace(image=np.zeros_like(found.image)))


@pytest.mark.parametrize("change, mirrored", [
    (flip_horizontal, True), (lambda s: turn(flip_horizontal(s), 2), True), (lambda s: turn(s, 1), False),
    (lambda s: turn(s, 2), False), (lambda s: turn(s, 3), False), (lambda s: cut(s, (5, 3, 25, 30)), False),
])  # fmt: skip
def test_keypoints_stay_on_their_pixels(sample, change, mirrored):
    """A mirror exchanges left and right: the left hand's pixel is the right hand's then."""
    changed = change(sample)
    order = [0, 2, 1] if mirrored else [0, 1, 2]
    places = lit(changed)
    assert len(places) == 3
    for k, (y, x, visible) in enumerate(changed.gt_keypoints[0].tolist()):
        assert places[50 * (order[k] + 1)] == (y, x) and visible == sample.gt_keypoints[0, order[k], 2]


def test_twice_is_the_identity(sample):
    np.testing.assert_array_equal(flip_horizontal(flip_horizontal(sample)).gt_keypoints, sample.gt_keypoints)
    np.testing.assert_array_equal(turn(sample, 4).gt_keypoints, sample.gt_keypoints)


def test_torchvisions_flip(sample):
    """Positions instead of pixels: x becomes W - x, as in its training scripts."""
    flipped = flip_horizontal(sample, keypoint_offset=0.0)
    assert flipped.gt_keypoints[0].tolist() == [[6, 35, 2], [7, 28, 2], [9, 32, 1]]


def test_enlarged_by_two_about_the_corner(sample):
    """Pixel 5 becomes pixels 10 and 11, its centre 5.5 becomes 11: between them."""
    changed = rescale(sample, 2.0, (0.0, 0.0))
    np.testing.assert_allclose(changed.gt_keypoints[0, :, :2], 2 * sample.gt_keypoints[0, :, :2] + 0.5)


def test_what_leaves_the_image_is_annotated_no_more(sample):
    changed = cut(sample, (0, 0, 30, 8))
    assert changed.gt_keypoints[0].tolist() == [[6, 5, 2], [0, 0, 0], [0, 0, 0]]


def test_not_annotated_stays_at_zero(sample):
    hidden = sample.replace(gt_keypoints=sample.gt_keypoints * [1, 1, 0])
    for changed in (flip_horizontal(hidden), turn(hidden, 1), rescale(hidden, 1.5), cut(hidden, (1, 1, 20, 20))):
        assert not changed.gt_keypoints.any()


def test_all_together_keep_keypoints_in_their_objects(sample):
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(60):
        changed = augment(
            sample, rng, flip=0.5, flip_vertical=0.5, quarter_turns=0.5, crop=(0.5, 1.0), scale_jitter=(0.6, 1.6)
        )
        for box, points in zip(changed.gt_boxes, changed.gt_keypoints):
            shown = points[points[:, 2] > 0, :2] + 0.5
            seen += len(shown)
            assert (shown >= box[:2] - 1).all() and (shown <= box[2:] + 1).all()
    assert seen > 80


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif(orientation):
    image = np.zeros((5, 7), int)
    points = np.array([[[1, 2, 2], [4, 6, 1], [0, 0, 0]]])
    image[1, 2], image[4, 6] = 1, 2
    turned, moved = upright(image, orientation), upright_points(points, orientation, (5, 7))
    assert [turned[y, x] for y, x in moved[0, :2, :2]] == [1, 2] and moved[0, 2].tolist() == [0, 0, 0]


@pytest.mark.skipif("COCO_POSE_ROOT" not in os.environ, reason="COCO_POSE_ROOT is not set")
def test_cocos_own_file():
    data = COCODataset(os.environ["COCO_POSE_ROOT"], "train")
    assert data.pose == COCO_PERSON and data.class_names == ("background", "person")
    samples = [data.load(i) for i in range(len(data))]
    counts = [int((s.gt_keypoints[g, :, 2] > 0).sum()) for s in samples for g in range(len(s.gt_boxes))]
    assert counts == [o.num_keypoints for i in data.ids for o in data.instances.objects(int(i))] and sum(counts) > 500
