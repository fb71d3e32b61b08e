"""Rectangles, circles and ellipses as masks."""

import numpy as np
import pytest

from mrcnn_np.data.outlines import ellipse, rectangle
from mrcnn_np.data.rle import decode


def test_rectangles_are_their_pixels():
    expected = np.zeros((9, 12), bool)
    expected[2:6, 3:10] = True
    for corners in ((3, 2, 10, 6), (10, 6, 3, 2), (3, 6, 10, 2)):
        np.testing.assert_array_equal(decode(rectangle(*corners, (9, 12))), expected)
    assert rectangle(-5, -5, 40, 40, (9, 12)).area == 108
    assert rectangle(3, 2, 3, 6, (9, 12)).area == 0


@pytest.mark.parametrize("radius", [0.6, 2, 7.5, 40])
def test_circles_have_their_area(radius):
    area = ellipse(50, 50, radius, radius, (100, 100)).area
    assert abs(area - np.pi * radius**2) < 2 * np.pi * radius * 0.2 + 1


def test_an_ellipse_turned_by_a_quarter_is_the_other_one():
    size = (60, 60)
    turned = ellipse(30, 30, 20, 8, size, turned=np.pi / 2)
    assert np.abs(turned.box() - ellipse(30, 30, 8, 20, size).box()).max() <= 1
    assert ellipse(30, 30, 0, 8, size).area <= 17
    for radius in (-1, float("nan")):
        with pytest.raises(ValueError, match="expected 0 or more"):
            ellipse(30, 30, radius, 8, size)
