"""Curves as SVG: within their frame, thinned, told in words, and escaped."""

import re

import numpy as np
import pytest

from mrcnn_np.pictures.chart import MOST, chart


def test_a_chart_of_nothing_is_nothing():
    assert chart("a", [], {"a": []}) == chart("a", [1.0, 2.0], {"a": [np.nan, np.inf]}) == ""


@pytest.mark.parametrize(
    "values", [[0.0], [1e-30], [3.0], [0.0, 0.0], [-1.0, 2.0], [1e-8, 1e8], [np.nan, 2.0], [1e300, 1.0]]
)
def test_a_chart_lies_within_its_frame(values):
    text = chart("a", np.arange(1, len(values) + 1), {"a": values})
    numbers = [float(n) for points in re.findall(r'points="([^"]+)"', text) for n in re.split("[ ,]", points)]
    numbers += [float(n) for n in re.findall(r'(?:y|y1|cy)="([^"]+)"', text)]
    assert numbers and all(0 <= n <= 640 for n in numbers)
    assert text.count("<circle ") == np.isfinite(values).sum()


def test_a_long_curve_is_thinned_to_means():
    values = np.tile([1.0, 3.0], 5000)
    text = chart("a", np.arange(1, 10001), {"a": values})
    (points,) = re.findall(r'points="([^"]+)"', text)
    heights = {float(p.split(",")[1]) for p in points.split()}
    assert len(points.split()) == MOST and max(heights) - min(heights) < 8
    assert len(text) < 10000


def test_words_tell_what_the_curve_shows_and_names_are_text():
    text = chart("<b>", [1, 2, 3, 4], {"<a>": [2.0, np.nan, 8.0, 4.0]})
    assert "&lt;a&gt;: 4 at step 4; 2 at step 1, least 2 at 1, most 8 at 3" in text
    assert "<b>" not in text and "<a>" not in text
    heights = [float(p.split(",")[1]) for p in re.findall(r'points="([^"]+)"', text)[0].split()]
    assert len(heights) == 3 and heights[0] > heights[2] > heights[1]  # down is up
