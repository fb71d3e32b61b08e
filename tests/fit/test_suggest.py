"""Sizes and ratios that fit better: found where there are any, and nothing said where there are none."""

import shlex

import numpy as np
import pytest

from mrcnn_np import presets
from mrcnn_np.fit.anchors import best_overlaps
from mrcnn_np.fit.suggest import MARGIN, as_options, candidates, clusters, limits, suggest


def objects(sizes, ratios, *, count=300, canvas=256, seed=0):
    """Boxes of given sizes and height-to-width ratios at random places of a canvas."""
    rng = np.random.default_rng(seed)
    size, ratio = rng.choice(sizes, count), rng.choice(ratios, count)
    sides = np.stack([size * np.sqrt(ratio), size / np.sqrt(ratio)], axis=1)
    corner = rng.uniform(0, 1, (count, 2)) * (canvas - sides)
    return np.concatenate([corner, corner + sides], axis=1), np.full((count, 2), canvas)


@pytest.mark.parametrize("meaning", ["height_over_width", "width_over_height"])
def test_tall_objects_get_tall_anchors(meaning):
    config = presets.small(anchor_ratio_meaning=meaning)
    boxes, canvases = objects([20, 40, 90], [4.0])
    changes = suggest(boxes, canvases, config)
    assert set(changes) == {"anchor_sizes", "anchor_ratios"} and len(changes["anchor_ratios"]) == 3
    wanted = 4.0 if meaning == "height_over_width" else 0.25
    assert min(abs(np.log(r / wanted)) for r in changes["anchor_ratios"]) < 0.15
    now, then = (best_overlaps(boxes, canvases, c).max(axis=(1, 2)) for c in (config, config.replace(**changes)))
    assert then.mean() > now.mean() + 0.15 and (then > 0.6).mean() > (now > 0.6).mean()
    assert changes == suggest(boxes, canvases, config)


def test_small_objects_go_to_the_fine_levels():
    boxes, canvases = objects([6, 9, 13], [1.0])
    config = presets.small()
    changed = config.replace(**suggest(boxes, canvases, config))
    best = best_overlaps(boxes, canvases, changed).max(axis=2)
    assert (best.argmax(axis=1) < 2).mean() > 0.85
    assert best.max(axis=1).mean() > best_overlaps(boxes, canvases, config).max(axis=(1, 2)).mean() + 0.15


def test_nothing_is_said_where_anchors_fit():
    config = presets.small(anchor_sizes=(16.0, 32.0, 64.0, 112.0, 184.0))
    boxes, canvases = objects([16, 32, 64, 112], [0.5, 1.0, 2.0])
    assert suggest(boxes, canvases, config) == {}
    assert suggest(boxes[:0], canvases[:0], config) == {}


def overlaps(boxes, canvases, config):
    return best_overlaps(boxes, canvases, config).max(axis=(1, 2))


@pytest.mark.parametrize("preset", sorted(presets.PRESETS))
def test_what_is_suggested_never_lowers_the_numbers(preset):
    config = presets.by_name(preset, num_classes=3)
    for seed in range(3):
        sizes = np.exp(np.random.default_rng(seed).uniform(2, 5.3, 6))
        boxes, canvases = objects(sizes, [0.3, 1.0, 1.7], seed=seed, count=40)
        now, then = (overlaps(boxes, canvases, c) for c in (config, config.replace(**suggest(boxes, canvases, config))))
        least = config.rpn_positive_iou
        assert then.mean() >= now.mean() - MARGIN
        assert (then >= least).mean() >= (now >= least).mean() - MARGIN
        assert np.quantile(then, 0.05) >= np.quantile(now, 0.05) - MARGIN
        assert (then < config.rpn_negative_iou).mean() <= (now < config.rpn_negative_iou).mean() + MARGIN


def test_the_mean_is_not_paid_for_by_the_smallest():
    # of a hundred objects, ninety would like anchors that leave ten tiny ones without any
    many, canvases = objects([55, 75, 100], [1.0, 1.8], count=900)
    few, others = objects([9, 11], [1.0], count=100, seed=1)
    boxes, canvases = np.concatenate([many, few]), np.concatenate([canvases, others])
    config = presets.small(anchor_sizes=(10.0, 20.0, 40.0, 150.0, 240.0))
    changed = config.replace(**suggest(boxes, canvases, config))
    now, then = (overlaps(boxes, canvases, c) for c in (config, changed))
    assert then[:900].mean() > now[:900].mean() + 0.05
    assert then[900:].mean() > now[900:].mean() - 0.05 and (then[900:] >= 0.3).all()


@pytest.mark.parametrize("preset", ["tiny", "small"])
@pytest.mark.parametrize("size", [3.0, 30.0, 200.0])
def test_sizes_rise_and_stay_apart_even_for_objects_of_one_size(size, preset):
    config = presets.by_name(preset, num_classes=2, image_min_size=256, image_max_size=256)
    boxes, canvases = objects([size], [1.0])
    found = list(candidates(boxes, canvases, config))
    assert found
    for changes in found:
        sizes = np.array(changes["anchor_sizes"])
        assert (sizes[1:] >= 1.15 * sizes[:-1]).all()  # 1.2, but for rounding
        then = overlaps(boxes, canvases, config.replace(**changes))
        assert (limits(then, config) >= limits(overlaps(boxes, canvases, config), config) - MARGIN).all()


def test_one_object_is_enough():
    changes = suggest(np.array([[10.0, 10, 13, 90]]), np.array([[128, 128]]), presets.tiny())
    assert presets.tiny(**changes).anchor_sizes == changes["anchor_sizes"]


def test_options_can_be_pasted():
    changes = {"anchor_sizes": (9.5, 20.0, 46.0, 81.0, 154.0), "anchor_ratios": (0.5, 1.0, 2.25)}
    words = shlex.split(as_options(changes))
    assert words[::2] == ["--config", "--config"]
    assert presets.tiny().with_overrides(words[1::2]) == presets.tiny(**changes)
    assert as_options({}) == ""


def test_clusters_by_hand():
    np.testing.assert_allclose(clusters(np.array([1, 1.2, 5, 5.2, 9, 9.2]), 3), [1.1, 5.1, 9.1])
    np.testing.assert_allclose(clusters(np.array([2.0]), 3), [2, 2, 2])
