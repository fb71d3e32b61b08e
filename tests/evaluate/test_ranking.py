"""Average precision of a ranking: tables, then properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_evaluate import EXACT, METHODS

from mrcnn_np.evaluate import (
    average_precision,
)


@pytest.mark.parametrize("method", METHODS)
def test_average_precision_of_perfect_and_empty_rankings(method):
    assert average_precision(np.array([0.5, 1.0]), np.ones(2), method=method) == 1
    assert average_precision(np.zeros(0), np.zeros(0), method=method) == 0
    assert average_precision(np.zeros(2), np.zeros(2), method=method) == 0


def test_voc07_reads_three_of_ten_objects_as_recall_three_tenths():
    # 3/10 < 0.1 * 3 in doubles: with np.arange(0, 1.1, 0.1) this would be 3/11.
    assert average_precision(np.arange(1, 4) / 10, np.ones(3), method="voc07") == pytest.approx(4 / 11, abs=EXACT)


def test_average_precision_uses_the_envelope():
    # Wrong, right, right of 2: precision 0, 1/2, 2/3; from recall 0 on, 2/3 can be had.
    for method in METHODS:
        ap = average_precision(np.array([0, 0.5, 1]), np.array([0, 1 / 2, 2 / 3]), method=method)
        assert ap == pytest.approx(2 / 3, abs=EXACT)


@pytest.mark.parametrize(
    ("recall", "precision", "method", "message"),
    [
        ([0.5], [1.0, 1.0], "voc10", "the same"),
        ([0.5, 0.4], [1.0, 1.0], "voc10", "recall leaves"),
        ([math.nan], [1.0], "voc10", "recall leaves"),
        ([0.5], [1.0], "voc12", "voc07, voc10, coco"),
    ],
)
def test_average_precision_refuses(recall, precision, method, message):
    with pytest.raises(ValueError, match=message):
        average_precision(np.array(recall), np.array(precision), method=method)


@st.composite
def curves(draw):
    """A ranking as outcomes, with at least as many objects as right detections."""
    right = draw(st.lists(st.booleans(), max_size=30))
    objects = sum(right) + draw(st.integers(0, 5))
    return np.array(right, bool), max(objects, 1)


def curve_of(right, objects):
    found = np.cumsum(right)
    return found / objects, found / np.arange(1, len(right) + 1)


@settings(max_examples=60, deadline=None)
@given(curves())
def test_average_precision_lies_between_zero_and_the_final_recall(case):
    right, objects = case
    recall, precision = curve_of(right, objects)
    for method in METHODS:
        assert 0 <= average_precision(recall, precision, method=method) <= 1 + 1e-15
    assert average_precision(recall, precision, method="voc10") <= right.sum() / objects + 1e-15


@settings(max_examples=60, deadline=None)
@given(curves())
def test_a_last_wrong_detection_changes_nothing_and_an_earlier_one_never_helps(case):
    right, objects = case
    for method in METHODS:
        before = average_precision(*curve_of(right, objects), method=method)
        assert average_precision(*curve_of(np.append(right, False), objects), method=method) == before
        worse = average_precision(*curve_of(np.append(False, right), objects), method=method)
        assert worse <= before + 1e-15
