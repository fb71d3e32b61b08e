"""The image that the graph molds, beside ``mold_image``, bit for bit."""

import numpy as np
import pytest
from onnx_run import computed

from mrcnn_np import presets
from mrcnn_np.molding import Molding, mold_image, plan
from mrcnn_np.onnx.molding import Molding as Places
from mrcnn_np.onnx.molding import mold_image as add_mold_image
from mrcnn_np.onnx.molding import unmold_boxes

SIZES = [(1, 1), (1, 90), (37, 53), (96, 96), (64, 64), (150, 61), (117, 114), (447, 235)]
SMALL = {"image_min_size": 64, "image_max_size": 96}
CONFIGS = {
    **{name: presets.PRESETS[name](**SMALL) for name in presets.PRESETS},
    "floor, edges, whole levels": presets.torchvision(**SMALL, resize_truncated=True),
    "fading without rounding": presets.torchvision(**SMALL, resize_border="zero", channel_order="bgr"),
    "centred, normalised first": presets.matterport(**SMALL, pad_before_normalise=False, pixel_std=(2.0, 3.0, 4.0)),
    "padded to 64": presets.detectron2(**SMALL, pad_multiple=64, pad_position="centre"),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_molded_images_are_the_same_bits(config):
    def add(g, image):
        molded, places = add_mold_image(g, image, config)
        return [(molded, np.float32, 4), (places.window, np.float32, 1), (places.canvas, np.int64, 1)]

    rng = np.random.default_rng(0)
    for size in SIZES:
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        expected, molding = mold_image(image, config)
        molded, window, canvas = computed(add, {"image": image})
        np.testing.assert_array_equal(molded[0], expected)
        assert tuple(window) == molding.window and tuple(canvas) == molding.molded_shape


@pytest.mark.parametrize(
    "config",
    [
        presets.tiny(**SMALL),
        presets.torchvision(),
        presets.torchvision(image_min_size=801),
        presets.detectron2(),
        presets.matterport(),
        presets.matterport(image_min_size=1),
    ],
    ids=lambda c: f"{c.name} {c.image_min_size}",
)
def test_sizes_round_as_they_do(config):
    """Sides that lie a bit below or above a whole number: only float64, in the same order, rounds them alike."""
    from mrcnn_np.onnx.molding import plan as add_plan

    def add(g, image):
        places = add_plan(g, image, config)
        return [(places.resized, np.int64, 1), (places.offset, np.int64, 1)]

    rng = np.random.default_rng(1)
    sizes = [(447, 1235), (800, 1333), (1333, 800), (5, 2000), *rng.integers(1, 1400, (12, 2)).tolist()]
    for size in sizes:
        molding = plan(tuple(size), config)
        resized, offset = computed(add, {"image": np.zeros((*size, 1), np.uint8)})
        assert (tuple(resized), tuple(offset)) == (molding.resized_shape, molding.offset), size


@pytest.mark.parametrize("frame", ["edges", "centres"])
@pytest.mark.parametrize("rounded", [False, True])
def test_boxes_come_back_as_the_same_bits(frame, rounded):
    config = presets.torchvision(box_frame=frame, detection_rounded=rounded)
    boxes = np.random.default_rng(2).uniform(0, 90, (20, 4)).astype(np.float32)
    for original, resized in [((37, 53), (64, 91)), ((1, 90), (1, 96)), ((500, 1), (96, 1))]:
        molding = Molding(original, resized, (96, 96), (3, 2))
        sides = {"original": original, "resized": resized, "canvas": (96, 96), "offset": (3, 2)}
        inputs = {name: np.array(pair, np.int64) for name, pair in sides.items()}

        def add(g, boxes, *sides):
            return [(unmold_boxes(g, boxes, Places(*sides, ""), config), np.float32, 2)]

        (found,) = computed(add, {"boxes": boxes} | inputs)
        expected = molding.unmold_boxes(boxes, frame)
        np.testing.assert_array_equal(found, np.round(expected) if rounded else expected)
