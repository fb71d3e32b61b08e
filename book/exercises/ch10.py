"""Chapter 10: detection targets."""

from __future__ import annotations

import numpy as np

from mrcnn_np import presets
from mrcnn_np.boxes import encode_boxes
from mrcnn_np.targets import crop_masks, negative_count


def test_1(fn):
    """Whose each region is."""
    overlaps = np.array([[0.5, 0.2], [0.49, 0.1], [0.6, 0.8], [0.0, 0.0]])
    got = np.asarray(fn(overlaps, 0.5)).tolist()
    assert got == [0, -1, 1, -1], (
        f"of the IoUs {overlaps.tolist()} and the threshold 0.5 the owners are {got}; expected [0, -1, 1, -1]"
    )
    try:
        got = np.asarray(fn(np.zeros((3, 0)), 0.5)).tolist()
    except (ValueError, IndexError) as error:
        raise AssertionError(
            f"an image without objects, IoUs of shape (3, 0), ends in an error ({error}); expected [-1, -1, -1]"
        ) from error
    assert got == [-1, -1, -1], (
        f"in an image without objects, IoUs of shape (3, 0), the owners are {got}; expected [-1, -1, -1]"
    )


def test_2(fn):
    """How many positives and negatives are drawn."""
    for config in (presets.matterport(), presets.torchvision()):
        count, share = config.rois_per_image, config.roi_positive_fraction
        for found in (0, 10, 33, 50, 66, 80, 128, 300):
            positives = min(found, int(count * share))
            want = (positives, negative_count(positives, config))
            got = tuple(int(v) for v in fn(found, count, share, config.roi_negatives))
            assert got == want, f"{found} found of {count}, {config.roi_negatives}: {got}; expected {want}"


def test_3(fn):
    """The box target of one region."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        low = rng.uniform(0, 50, (2, 2))
        region, box = np.concatenate([low, low + rng.uniform(5, 40, (2, 2))], axis=1)
        want = encode_boxes(box, region, std=(0.1, 0.1, 0.2, 0.2))
        got = np.asarray(fn(region, box, (0.1, 0.1, 0.2, 0.2)))
        assert got.shape == (4,), f"the target has shape {got.shape}; expected (4,)"
        assert np.allclose(got, want), f"region {region.round(1)}, object {box.round(1)}: {got}; expected {want}"


def test_4(fn):
    """A mask cut with a region of whole pixels."""
    mask = np.random.default_rng(4).random((20, 24)) < 0.5
    for region, m in (((0, 0, 8, 12), 4), ((3, 5, 17, 19), 7), ((2, 1, 8, 22), 3), ((4, 4, 9, 9), 5)):
        wanted = crop_masks(
            mask[None], np.zeros(1, int), np.array([region], float), output_size=m, method="roi_align", aligned=True
        )[0]
        got = np.asarray(fn(mask, region, m), float)
        assert got.shape == (m, m), f"the target has shape {got.shape}; expected {(m, m)}"
        assert np.allclose(got, wanted), f"region {region}: the first row is {got[0]}; expected {wanted[0]}"


MUTANTS = {
    1: [(">= threshold", "> threshold"), ("argmax(axis=1)", "argmin(axis=1)")],
    2: [("min(found, int(count * share))", "found"), ("int(positives / share) - positives", "count - positives")],
    3: [("new_side / side", "side / new_side"), ("+ new_side / 2", ""), (" / np.asarray(std)", "")],
    4: [("axis=(1, 3)", "axis=(0, 2)"), (".mean(", ".max(")],
}
