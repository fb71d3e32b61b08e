"""What masks lose in m x m cells, against whole images and by hand."""

import numpy as np
import pytest
from scenes import fill, sample_of

from mrcnn_np import presets
from mrcnn_np.detections import paste_masks
from mrcnn_np.fit.masks import mask_losses, outline
from mrcnn_np.fit.truth import truth_of
from mrcnn_np.targets import mask_targets

SIZES = (14, 28)


def scene(config):
    """An image that is resized, with a disc, an object at the border, a crowd, and one of a single pixel."""
    boxes = [[5, 9, 85, 70], [40, 60, 90, 120], [0, 0, 30, 30], [31, 33, 32, 34]]
    y, x = np.mgrid[:90, :120] + 0.5
    masks = fill(np.array(boxes), (90, 120))
    masks[0] &= ((y - 45) / 40) ** 2 + ((x - 39.5) / 30.5) ** 2 < 1
    return truth_of(sample_of(boxes, shape=(90, 120), masks=masks, crowd=[False, False, True, False]), config), masks


@pytest.mark.parametrize("paste", ["resize", "resize_zero", "plus_one", "grid_sample"])
@pytest.mark.parametrize("preset", sorted(presets.PRESETS))
def test_masks_are_compared_as_if_in_whole_images(preset, paste):
    config = presets.by_name(preset, num_classes=2).replace(
        image_min_size=96, image_max_size=128, mask_paste=paste, mini_mask_shape=None
    )
    truth, masks = scene(config)
    measured = mask_losses(truth, config, SIZES)
    assert measured.shape == (3, 3, 2)
    boxes = truth.molding.unmold_boxes(truth.boxes, config.box_frame)
    for i, m in enumerate(SIZES):
        changed = config.replace(mask_pool_size=m // 2, mask_branch=False)
        cells = mask_targets(
            truth.boxes, np.arange(4), truth.boxes, np.asarray(truth.masks), changed, window=truth.molding.window
        )
        pasted = paste_masks(cells, boxes, (90, 120), config)
        for row, k in enumerate((0, 1, 3)):
            overlap = (masks[k] & pasted[k]).sum() / (masks[k] | pasted[k]).sum()
            assert measured[row, 1 + i, 0] == pytest.approx(overlap, abs=1e-12)


def test_cells_may_say_more_than_the_nearest_pixel_of_the_training_size():
    """An image that is halved: its disc comes back with stairs of two pixels, and smoothed from 28 cells."""
    config = presets.tiny(num_classes=2, image_min_size=64, image_max_size=64)
    y, x = np.mgrid[:128, :128] + 0.5
    disc = (y - 64) ** 2 + (x - 64) ** 2 < 45**2
    truth = truth_of(sample_of([[19, 19, 109, 109]], shape=(128, 128), masks=disc[None]), config)
    (found,) = mask_losses(truth, config, (28,))
    assert 0.95 < found[0, 0] < found[1, 0]


def test_more_cells_lose_less():
    config = presets.tiny(num_classes=2, image_min_size=256, image_max_size=256)
    y, x = np.mgrid[:256, :256]
    teeth = ((x // 6) % 2 == 0) & (y < 250)  # thin upright bars
    truth = truth_of(sample_of([[0, 0, 250, 256]], shape=(256, 256), masks=teeth[None]), config)
    (found,) = mask_losses(truth, config, (14, 28, 56, 112))
    assert found[0].tolist() == [1, 0]  # nothing is resized
    assert (np.diff(found[1:, 0]) > 0).all() and found[1, 0] < 0.6 and found[4, 0] > 0.9
    assert found[4, 1] < found[1, 1]


def test_mini_masks_lose_too():
    config = presets.tiny(num_classes=2, image_min_size=128, image_max_size=128)
    truth, _ = scene(config)
    plain, mini = (mask_losses(truth, c, (28,)) for c in (config, config.replace(mini_mask_shape=(7, 7))))
    assert mini[0, 1, 0] < plain[0, 1, 0]


def test_an_outline_by_hand():
    mask = np.zeros((5, 6), bool)
    mask[1:4, 1:5] = True
    edge = mask.copy()
    edge[2, 2:4] = False
    np.testing.assert_array_equal(outline(mask), edge)
    assert outline(np.ones((2, 2), bool)).all() and not outline(np.zeros((2, 2), bool)).any()


def test_no_object():
    config = presets.tiny(num_classes=2)
    assert mask_losses(truth_of(sample_of([], shape=(9, 9)), config), config, SIZES).shape == (0, 3, 2)
    empty = sample_of([[2, 2, 5, 5]], shape=(9, 9), masks=np.zeros((1, 9, 9), bool))
    assert mask_losses(truth_of(empty, config), config, SIZES).shape == (0, 3, 2)
