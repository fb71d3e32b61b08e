"""Outlines that are drawn further out in some pictures are found by the brightness along them, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest
from all_named import all_named
from scenes import sample_of
from scipy import ndimage

from mrcnn_np.data import check_dataset
from mrcnn_np.data.edge_levels import LEAST_OBJECTS, LEAST_PICTURES, PATIENCE, EdgeLevels, edge_levels
from mrcnn_np.data.masks import Masks

SIDE = 160
CENTRES = [(y, x) for y in (25, 80, 135) for x in (25, 80, 135)]


def picture(name, *, radius=10.0, drawn=0.0, blur=0.0, dark=False, noise=0.0, seed=0):
    """Make a sample of nine disks of the grey level 120 on 20, whose outlines run so many pixels further out."""
    yy, xx = np.mgrid[:SIDE, :SIDE]
    distance = np.stack([np.hypot(yy - y, xx - x) for y, x in CENTRES])
    grey = 20 + 100.0 * (distance <= radius).any(axis=0)
    grey = ndimage.gaussian_filter(grey, blur) if blur else grey
    grey = grey + noise * np.random.default_rng(seed).normal(size=grey.shape)
    image = np.clip(255 - grey if dark else grey, 0, 255).astype(np.uint8)
    masks = Masks.of_array(distance <= radius + drawn)
    sample = sample_of(masks.boxes, shape=(SIDE, SIDE))
    return replace(sample, image=np.repeat(image[..., None], 3, axis=2), gt_masks=masks, image_id=name)


def looked_at(samples):
    levels = EdgeLevels()
    for sample in samples:
        levels.add(sample)
    return all_named(levels.findings())


@pytest.mark.parametrize("dark", [False, True])
def test_level_of_an_outline(dark):
    """Along the edge it is a half, whatever the blur; further out lower, further in higher."""
    for blur in (1.5, 2.5):
        along = edge_levels(picture("a", blur=blur, dark=dark))
        assert along.shape == (9,) and np.abs(along - 0.5).max() < 0.1  # of a disk of 10 pixels: 0.45 to 0.51
        assert edge_levels(picture("a", blur=blur, drawn=3, dark=dark)).max() < 0.25
        assert edge_levels(picture("a", blur=blur, drawn=-2, dark=dark)).min() > 0.65


def test_pictures_drawn_further_out_are_named():
    usual = [picture(f"p{n}", blur=1 + n / 10, noise=2, seed=n) for n in range(LEAST_PICTURES)]
    assert looked_at(usual) == []
    (finding,) = looked_at([*usual, picture("halo", blur=2, drawn=3), picture("more", blur=2, drawn=4)])
    assert (finding.count, finding.of, finding.unit) == (2, LEAST_PICTURES + 2, "images where it can be told")
    assert finding.example == "more, halo" and "further out than in most" in finding.text and not finding.fatal
    many = [picture(f"halo{n}", blur=2, drawn=3) for n in range(4)]
    (finding,) = looked_at([*usual, *usual, *many])
    assert finding.example == "halo0, halo1, halo2 and 1 more" and not finding.names_all
    assert finding.concerns == ("halo0", "halo1", "halo2", "halo3")
    (finding,) = looked_at([*usual, picture("within", blur=2, drawn=-3)])
    assert finding.example == "within" and "further in than in most" in finding.text


def test_nothing_is_said_of_what_does_not_tell():
    few = [picture(f"p{n}", blur=1.5) for n in range(LEAST_PICTURES - 2)]
    assert looked_at([*few, picture("halo", blur=2, drawn=3)]) == []  # too few pictures
    usual = [picture(f"p{n}", blur=1.5) for n in range(LEAST_PICTURES)]
    halo = picture("halo", blur=2, drawn=3)
    first = replace(
        halo, gt_boxes=halo.gt_boxes[:4], gt_class_ids=halo.gt_class_ids[:4], gt_masks=halo.gt_masks[:4],
        gt_crowd=halo.gt_crowd[:4], gt_difficult=halo.gt_difficult[:4],
    )  # fmt: skip
    assert len(edge_levels(first)) == LEAST_OBJECTS - 1 and looked_at([*usual, first]) == []
    rng = np.random.default_rng(0)
    textured = [
        replace(s, image=rng.integers(0, 255, s.image.shape, dtype=np.uint8)) for s in usual
    ]  # brightness is no sign of an object
    assert looked_at([*textured, halo]) == []
    plain = replace(usual[0], image=np.full_like(usual[0].image, 90))
    assert len(edge_levels(plain)) == 0


def test_odd_objects_are_left_out():
    """Empty masks, crowds, masks of the whole picture, objects at the edge: no error, and no level of what has none."""
    sample = picture("a", blur=1.5)
    masks = np.asarray(sample.gt_masks).copy()
    masks[0], masks[1] = False, True
    masks[2] = np.roll(masks[2], (-25, 25), (0, 1))
    crowd = np.zeros(9, bool)
    crowd[3] = True
    levels = edge_levels(replace(sample, gt_masks=masks, gt_crowd=crowd))
    assert len(levels) < 7 and np.isfinite(levels).all()
    none = replace(
        sample, gt_boxes=np.zeros((0, 4), np.float32), gt_class_ids=np.zeros(0, np.int64), gt_crowd=np.zeros(0, bool),
        gt_masks=Masks((), (SIDE, SIDE)), gt_difficult=np.zeros(0, bool),
    )  # fmt: skip
    assert edge_levels(none).shape == (0,) and looked_at([none]) == []


class Pictures:
    def __init__(self, samples):
        self.samples, self.class_names = samples, ("background", "object")
        self.ids = tuple(s.image_id for s in samples)

    def __len__(self):
        return len(self.samples)

    def load(self, index):
        return self.samples[index]


def test_data_check_says_so():
    samples = [picture(f"p{n}", blur=1 + n / 10, noise=2, seed=n) for n in range(LEAST_PICTURES)]
    report = check_dataset(Pictures([*samples, picture("halo", blur=2, drawn=3)]))
    assert report.ok and any("further out" in str(advice) and "halo" in str(advice) for advice in report.advice)


def test_photographs_are_not_looked_at_for_ever(monkeypatch):
    looked = []
    monkeypatch.setattr("mrcnn_np.data.edge_levels.edge_levels", lambda sample: looked.append(sample) or np.zeros(0))
    assert looked_at([picture("a")] * (PATIENCE + 5)) == [] and len(looked) == PATIENCE
