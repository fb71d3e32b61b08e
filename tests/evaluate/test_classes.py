"""Classes of a network and of a data set by name: the table, and samples in other numbers."""

import numpy as np
import pytest
from scenes import sample_of

from mrcnn_np.errors import UserError
from mrcnn_np.evaluate.classes import Renumbered, in_classes_of, match_classes

OURS = ("background", "cat", "dog", "tv")


@pytest.mark.parametrize(
    ("data", "lookup", "missing", "unknown", "same"),
    [
        (OURS, [0, 1, 2, 3], (), (), True),
        (("background", "dog", "tv", "cat"), [0, 2, 3, 1], (), (), False),
        (("background", "dog"), [0, 2], ("cat", "tv"), (), False),
        (("background", "cat"), [0, 1], ("dog", "tv"), (), False),
        (("background", "cow", "cat", "dog", "tv"), [0, 0, 1, 2, 3], (), ("cow",), False),
        (("background", "cat", "dog", "tv", "cow"), [0, 1, 2, 3, 0], (), ("cow",), False),
        (("background", "Cat", "tvmonitor"), [0, 1, 3], ("dog",), (), False),
        (("background", "Cat", "cat"), [0, 0, 1], ("dog", "tv"), ("Cat",), False),
        (("background", "CAT", "Cat"), [0, 1, 0], ("dog", "tv"), ("Cat",), False),
    ],
)
def test_table(data, lookup, missing, unknown, same):
    match = match_classes(OURS, data, "the data set")
    assert match.lookup.tolist() == lookup
    assert (match.missing, match.unknown, match.same) == (missing, unknown, same)
    assert bool(match.describe("the data set")) != same


@pytest.mark.parametrize("data", [("background",), ("background", "cow")])
def test_nothing_in_common(data):
    with pytest.raises(UserError, match=r"was trained on the classes background, cat, dog, tv; val has"):
        match_classes(OURS, data, "val")


class OneImage:
    class_names = ("background", "dog", "cow", "cat")
    ids = ("a",)

    def __len__(self):
        return 1

    def load(self, index):
        return sample_of([(0, 0, 4, 4), (4, 4, 8, 8), (8, 8, 12, 12)], [1, 2, 3]).replace(
            gt_areas=np.array([1.0, 2, 3])
        )


def test_samples_in_other_numbers():
    said = []
    dataset = in_classes_of(OneImage(), OURS, "val", said.append)
    sample = dataset.load(0)
    assert (dataset.class_names, dataset.ids, len(dataset)) == (OURS, ("a",), 1)
    assert sample.gt_class_ids.tolist() == [2, 1] and sample.gt_areas.tolist() == [1, 3]
    np.testing.assert_array_equal(sample.gt_boxes[:, 0], [0, 8])
    assert len(said) == 2 and "lacks tv" in said[0] and "has cow" in said[1]
    assert isinstance(dataset, Renumbered)
    same = OneImage()
    assert in_classes_of(same, OneImage.class_names, "val", said.append) is same and len(said) == 2
