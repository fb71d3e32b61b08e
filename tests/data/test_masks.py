import json
import subprocess
import sys

import numpy as np
import pytest
from naive_evaluate import counted_mask_iou
from PIL import Image

from mrcnn_np import presets
from mrcnn_np.data.augment import flip_horizontal, rescale
from mrcnn_np.data.masks import Masks, placed
from mrcnn_np.data.rle import encode
from mrcnn_np.data.sample import Sample
from mrcnn_np.evaluate.matching import mask_iou
from mrcnn_np.molding import make_batch
from mrcnn_np.resizing import enclosing_boxes
from mrcnn_np.targets import mask_targets

SHAPES = [(1, 1), (1, 7), (9, 1), (8, 13), (21, 10)]


def random_masks(rng, shape, count=5):
    """From nothing to everything, with runs that go over the foot of a column."""
    density = rng.choice([0, 0.05, 0.5, 0.95, 1], count)
    return rng.random((count, *shape)) < density[:, None, None]


@pytest.fixture(params=[(shape, moved) for shape in SHAPES for moved in (False, True)], ids=str)
def pair(request):
    """The same masks as pixels and as `Masks`, of run lengths or of what a move leaves."""
    shape, moved = request.param
    dense = random_masks(np.random.default_rng(3), shape)
    masks = Masks.of_array(dense)
    if moved:  # the boxes are no tight ones then
        masks = masks.mapped(lambda crop, box: (crop, box[:2]), shape)
        masks = Masks.of_crops([(dense[0], (0, 0)), *masks.crops[1:]], shape)
    return dense, masks


def test_they_can_be_used_like_an_array(pair):
    dense, masks = pair
    assert masks.shape == dense.shape and masks.dtype == bool and masks.ndim == 3 and len(masks) == len(dense)
    np.testing.assert_array_equal(masks, dense)
    for one, other in zip(masks, dense, strict=True):
        np.testing.assert_array_equal(one, other)
    for key in (0, -1, np.int64(2), (1, 0), (1, slice(None), 0), ..., None, (slice(None), 0), (slice(None), ..., 0)):
        np.testing.assert_array_equal(masks[key], dense[key])
    np.testing.assert_array_equal(masks[dense], dense[dense])
    np.testing.assert_array_equal(masks.sum(axis=(1, 2)), dense.sum(axis=(1, 2)))
    np.testing.assert_array_equal(masks.any(axis=0), dense.any(axis=0))
    np.testing.assert_array_equal(masks & ~dense, dense & ~masks)
    np.testing.assert_array_equal(masks.astype(np.uint8).T, dense.astype(np.uint8).T)
    np.testing.assert_array_equal(np.concatenate([masks, dense]), np.concatenate([dense, dense]))
    with pytest.raises(IndexError):
        masks[len(dense)]
    with pytest.raises(AttributeError, match="no attribute 'polygons'"):
        masks.polygons  # noqa: B018


def test_a_choice_of_objects_stays_run_lengths(pair):
    dense, masks = pair
    flags = dense.any(axis=(1, 2))
    for key in (flags, ~flags, [2, 0, 0], [], np.array([], bool)[:0].astype(int), slice(1, 3), np.array([4])):
        chosen = masks[key]
        assert isinstance(chosen, Masks)
        np.testing.assert_array_equal(chosen, dense[key if len(np.shape(key)) == 0 or len(key) else []][:])


def test_areas_boxes_and_crops(pair):
    dense, masks = pair
    assert masks.areas.tolist() == dense.sum(axis=(1, 2)).tolist()
    np.testing.assert_array_equal(masks.boxes, enclosing_boxes(dense, np.int64))
    height, width = dense.shape[1:]
    rng = np.random.default_rng(4)
    for _ in range(20):
        y1, y2 = sorted(rng.integers(0, height + 1, 2))
        x1, x2 = sorted(rng.integers(0, width + 1, 2))
        for k in range(len(dense)):
            np.testing.assert_array_equal(masks.crop(k, (y1, x1, y2, x2)), dense[k, y1:y2, x1:x2])
            np.testing.assert_array_equal(masks[k, y1:y2, x1:x2], dense[k, y1:y2, x1:x2])
        part = masks[:, y1:y2, x1:x2]
        assert isinstance(part, Masks)
        np.testing.assert_array_equal(part, dense[:, y1:y2, x1:x2])


def test_other_sizes_and_places(pair):
    dense, masks = pair
    rng, (height, width) = np.random.default_rng(5), dense.shape[1:]
    for _ in range(10):
        rows, columns = (np.sort(rng.integers(0, side, int(rng.integers(1, 20)))) for side in (height, width))
        np.testing.assert_array_equal(masks.picked(rows, columns), dense[:, rows[:, None], columns])
        corner, size = rng.integers(-5, 6, 2), rng.integers(1, 20, 2)
        canvas = np.zeros((len(dense), 40, 50), bool)
        canvas[:, 10 + corner[0] :, 10 + corner[1] :][:, :height, :width] = dense
        shifted = masks.shifted(tuple(corner.tolist()), tuple(size.tolist()))
        np.testing.assert_array_equal(shifted, canvas[:, 10 : 10 + size[0], 10 : 10 + size[1]])
    np.testing.assert_array_equal(masks.flipped(), dense[:, :, ::-1])


def test_a_chain_of_moves(pair):
    """Flips, turns, places and sizes in any order, each on what the one before it left."""
    dense, masks = pair
    rng = np.random.default_rng(12)
    for _ in range(12):
        height, width = dense.shape[1:]
        rows, columns = (np.sort(rng.integers(0, side, int(rng.integers(1, 30)))) for side in (height, width))
        void = rng.random((height, width)) < 0.1
        moves = [
            (masks.flipped(), dense[:, :, ::-1]),
            (masks.turned(), np.rot90(dense, axes=(1, 2))),
            (masks.picked(rows, columns), dense[:, rows[:, None], columns]),
            (masks.shifted((-1, 2), (height, width)), np.pad(dense, ((0, 0), (0, 1), (2, 0)))[:, 1:, :width]),
            (masks.without(void), dense & ~void),
            (masks[::-1], dense[::-1]),
        ]
        masks, dense = moves[rng.integers(len(moves))]
        np.testing.assert_array_equal(masks, dense)
        assert masks.areas.tolist() == dense.sum(axis=(1, 2)).tolist()
        np.testing.assert_array_equal(masks.boxes, enclosing_boxes(dense, np.int64))
        for rle, mask in zip(masks.rles, dense, strict=True):
            assert rle.counts.tolist() == encode(mask).counts.tolist()


def test_run_lengths_do_not_depend_on_the_way(pair):
    dense, masks = pair
    for rle, mask in zip(masks.flipped().flipped().rles, dense):
        assert rle.counts.tolist() == encode(mask).counts.tolist()
        assert placed(mask, (0, 0), mask.shape).counts.tolist() == encode(mask).counts.tolist()


def test_the_masks_of_an_image_of_numbers():
    rng = np.random.default_rng(6)
    for dtype in (np.uint8, np.uint16, np.int32):
        for shape in SHAPES:
            labels = rng.integers(0, 5, shape).astype(dtype) * np.array(60, dtype)
            numbers = [60, 240, 0, 100]
            np.testing.assert_array_equal(Masks.of_labels(labels, numbers), [labels == n for n in numbers])
            assert Masks.of_labels(labels, []).shape == (0, *shape)


def test_masks_of_two_sizes():
    with pytest.raises(ValueError, match=r"a mask has the size \(2, 3\); expected \(3, 2\)"):
        Masks([encode(np.zeros((2, 3), bool))], (3, 2))


# --- the rest of the program computes the same from both forms ---


def sample_of(masks, rng):
    count, height, width = masks.shape
    corners = np.sort(rng.random((2, count, 2)), axis=0) * [height, width] + [[[0, 0]], [[0.5, 0.5]]]
    return Sample(
        "a",
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        np.concatenate([corners[0], corners[1]], axis=1).astype(np.float32),
        np.ones(count, np.int64),
        masks,
        np.zeros(count, bool),
        np.zeros(count, bool),
        rng.random((height, width)) < 0.2,
    )


CONFIGS = {
    "tiny": presets.tiny(num_classes=2),
    "aligned by edges": presets.tiny(num_classes=2).replace(mask_resize="edges"),
    "padded, aligned by centres": presets.tiny(num_classes=2).replace(mask_resize="centres", pad_position="centre"),
    "boxes of masks, mini masks": presets.tiny(num_classes=2).replace(
        gt_boxes_from_masks=True, mini_mask_shape=(28, 28)
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_molding(name):
    rng = np.random.default_rng(7)
    for shape in ((40, 60), (300, 200), (128, 128)):
        dense = random_masks(rng, shape)
        for _ in range(3):
            dense = dense & np.roll(dense, 1, axis=2)
        sample = sample_of(dense, rng)
        one, other = (
            make_batch([sample.replace(gt_masks=masks)], CONFIGS[name]) for masks in (dense, Masks.of_array(dense))
        )
        for field in ("gt_boxes", "gt_class_ids", "gt_masks", "gt_crowd"):
            (a,), (b,) = getattr(one, field), getattr(other, field)
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        if CONFIGS[name].mini_mask_shape is None:
            rois, owner = one.gt_boxes[0][[3, 1, 1]], np.array([3, 1, 1])
            a, b = (mask_targets(rois, owner, x.gt_boxes[0], x.gt_masks[0], CONFIGS[name]) for x in (one, other))
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("scale", [0.3, 0.77, 0.999, 1.01, 1.5, 3.0])
def test_augmentation(scale):
    """Pillow's resizing of every whole mask, as it was once done, is what the runs give."""
    rng = np.random.default_rng(8)
    dense = random_masks(rng, (37, 53), 6)
    sample = sample_of(dense, rng).replace(gt_boxes=enclosing_boxes(dense, np.float32))
    new = np.maximum(np.rint(np.array(dense.shape[1:]) * scale).astype(int), 1)
    for place in ((0, 0), (0.4, 0.9), (1, 1)):
        offset = np.floor((np.array(dense.shape[1:]) - new) * np.array(place) + 0.5).astype(int)
        expected = []
        for mask in dense:
            picture = Image.fromarray(mask.astype(np.uint8)).resize((new[1], new[0]), Image.Resampling.NEAREST)
            canvas = np.zeros((3 * 37 * 3, 3 * 53 * 3), bool)
            y, x = offset + np.array([150, 200])
            canvas[y : y + new[0], x : x + new[1]] = np.asarray(picture)
            expected.append(canvas[150:187, 200:253])
        one, other = (rescale(sample.replace(gt_masks=m), scale, place) for m in (dense, Masks.of_array(dense)))
        assert isinstance(one.gt_masks, np.ndarray) and isinstance(other.gt_masks, Masks)
        np.testing.assert_array_equal(one.gt_masks, other.gt_masks)
        np.testing.assert_array_equal(one.gt_boxes, other.gt_boxes)
        seen = [mask for mask in expected if mask.any()]
        np.testing.assert_array_equal([mask for mask in one.gt_masks if mask.any()], seen)
    one, other = (flip_horizontal(sample.replace(gt_masks=m)) for m in (dense, Masks.of_array(dense)))
    np.testing.assert_array_equal(one.gt_masks, other.gt_masks)
    np.testing.assert_array_equal(one.gt_masks, dense[:, :, ::-1])


def test_overlaps():
    rng = np.random.default_rng(9)
    for shape in SHAPES:
        a, b = random_masks(rng, shape, 6), random_masks(rng, shape)
        void, crowd = rng.random(shape) < 0.3, rng.random(len(b)) < 0.5
        for options in ({}, {"crowd": crowd}, {"void": void}, {"crowd": crowd, "void": void}):
            np.testing.assert_array_equal(mask_iou(a, Masks.of_array(b), **options), mask_iou(a, b, **options))
            np.testing.assert_array_equal(mask_iou(a, b, **options), counted_mask_iou(a, b, **options))
        assert mask_iou(a[:0], Masks.of_array(b[:0])).shape == (0, 0)


# --- memory ---

SIZE = (3000, 4000)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A photograph of 12 megapixels with 450 polygons, and the same with one."""
    root = tmp_path_factory.mktemp("crowded")
    (root / "annotations").mkdir()
    rng = np.random.default_rng(0)
    annotations = []
    for number in range(450):
        y, x = rng.uniform(0, SIZE[0]), rng.uniform(0, SIZE[1])
        angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
        radius = rng.uniform(30, 120)
        points = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1).clip(0, SIZE[::-1])
        low, high = points.min(axis=0), points.max(axis=0)
        box = [*low.tolist(), *(high - low).tolist()]
        annotations.append(
            {"id": number + 1, "image_id": 1, "category_id": 1, "bbox": box, "segmentation": [points.ravel().tolist()]}
        )
    entry = {"file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}
    Image.new("RGB", SIZE[::-1], (90, 80, 70)).save(root / "a.png")
    for split, found in (("many", annotations), ("one", annotations[:1])):
        content = {"images": [entry | {"id": 1}], "categories": [{"id": 1, "name": "cell"}], "annotations": found}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


PROGRAM = """
import resource, sys
import kernels
import numpy as np
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.data import check_dataset, open_dataset
from mrcnn_np.data.augment import augment
from mrcnn_np.data.sample import for_training
from mrcnn_np.molding import make_batch
dataset = open_dataset("coco", sys.argv[1], sys.argv[2])
if sys.argv[3] == "check":
    check_dataset(dataset)
else:
    kernels.use("numpy").__enter__()
    model = MaskRCNN(presets.tiny(num_classes=2))
    rng = np.random.default_rng(0)
    sample = augment(for_training(dataset.load(0)), rng, flip=1, scale_jitter=(0.9, 0.9))
    losses, cache = model.losses(make_batch([sample], model.config), rng)
    model.backward(cache)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.parametrize("work", ["check", "train"])
def test_memory_of_many_instances(crowded, work):
    """What 450 objects take above the image alone, in MiB; measured: below 40 to check, below 110 to train."""
    peak = {}
    for split in ("many", "one"):
        command = [sys.executable, "-c", PROGRAM, str(crowded), split, work]
        peak[split] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert peak["many"] - peak["one"] < 300
