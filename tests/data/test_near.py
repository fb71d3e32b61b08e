"""Pictures that are nearly the same are found, and different ones are not, however alike a data set's pictures are."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scenes import sample_of
from stored_again import SECOND, as_jpeg, photograph, real_pictures, resized

from mrcnn_np.data import Overview, compare_splits
from mrcnn_np.data.near import SAME, earlier, nearest, thumbnail


def correlation(a, b):
    return float(thumbnail(a).cells @ thumbnail(b).cells)


@pytest.mark.parametrize("kind", SECOND)
def test_one_picture_stored_twice(kind):
    pictures = [photograph(seed) for seed in range(5)]
    ones = [thumbnail(picture) for picture in pictures]
    others = [thumbnail(SECOND[kind](picture)) for picture in reversed(pictures[1:])]
    assert nearest(ones, others) == [(1, 3), (2, 2), (3, 1), (4, 0)]


def test_what_is_not_the_same():
    one, picture = thumbnail(photograph(0)), photograph(0)
    others = [photograph(1), picture[:, ::-1], picture[::-1], resized(photograph(0, (90, 150)), 1), 255 - picture]
    squeezed = np.asarray(Image.fromarray(picture).resize((90, 120)))
    assert nearest([one], [thumbnail(image) for image in [*others, squeezed]]) == []
    assert nearest([], [one]) == nearest([one], []) == []


def test_pictures_that_show_too_little_are_left_out():
    assert thumbnail(np.full((50, 60, 3), 9, np.uint8)) is None
    assert thumbnail(photograph(0)[:20]) is None and thumbnail(photograph(0)[:1, :1]) is None
    noise = np.random.default_rng(0).integers(100, 110, (240, 240, 3), dtype=np.uint8)
    assert thumbnail(noise) is None


@pytest.mark.parametrize("kind", ["voc", "coco", "dsb"])
def test_no_false_alarm_on_real_pictures(kind):
    dataset = real_pictures(kind)
    images = [dataset.load(i).image for i in np.linspace(0, len(dataset) - 1, min(len(dataset), 100)).astype(int)]
    cells = np.stack([small.cells for small in map(thumbnail, images) if small is not None])
    alike = cells @ cells.T - 2 * np.eye(len(cells))
    assert alike.max() < SAME - 0.2  # 0.68 at most, of all their pairs
    for image in images[::20]:
        for stored in (second(image) for second in SECOND.values()):
            if thumbnail(image) is not None and thumbnail(stored) is not None:  # else it is too dark to tell
                assert correlation(image, stored) >= SAME


def sample(image, name):
    return replace(sample_of([[1, 1, 9, 9]], shape=image.shape[:2], name=name), image=image)


class Looked:
    """What ``Overview.of`` asks of a data set."""

    class_names = ("background", "thing")

    def __len__(self):
        return 1


def test_it_is_advice_and_said_once():
    one, other = Overview.of(Looked(), "train"), Overview.of(Looked(), "val")
    for overview, image in ((one, photograph(3)), (other, as_jpeg(photograph(3), 70))):
        overview.add(sample(image, overview.split))
    wrong, (finding,) = compare_splits(one, [other])
    assert wrong == [] and (finding.count, finding.unit) == (1, "images of split 'train'")
    assert "train" in finding.example and "looks like val" in finding.example and "leave them out" in finding.text
    again = Overview.of(Looked(), "val")
    again.add(sample(photograph(3), "b"))
    (sure,), advice = compare_splits(one, [again])
    assert "pixel for pixel" in sure.text and advice == []


def test_each_with_the_most_similar_before_it(monkeypatch):
    pictures = [photograph(0), photograph(1), as_jpeg(photograph(0), 20), photograph(0), photograph(2), photograph(1)]
    small = [thumbnail(picture) for picture in pictures]
    assert earlier(small) == [(2, 0), (3, 0), (5, 1)] and earlier([]) == [] and earlier(small[:1]) == []
    monkeypatch.setattr("mrcnn_np.data.near._BLOCK", 2)
    assert earlier(small) == [(2, 0), (3, 0), (5, 1)]
    assert earlier([small[0], thumbnail(resized(photograph(0, (90, 150)), 1))]) == []
