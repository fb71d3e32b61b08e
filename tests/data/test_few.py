"""Too few pictures for random weights: what counts, and how few pictures are read to say so."""

import numpy as np
import pytest
from annotated_trees import BUILDERS
from coco_tree import CocoTree
from voc_tree import Tree

from mrcnn_np.data import COCODataset, VOCDataset, open_dataset
from mrcnn_np.data.few import LOOKED_AT, Few, too_few
from mrcnn_np.errors import DataError


class Classes:
    """A data set of which only the classes of the pictures are known; None for one that cannot be read."""

    def __init__(self, *pictures, listed=3):
        self.pictures, self.read = pictures, 0
        self.class_names = ("background", *"abcdefgh"[:listed])

    def __len__(self):
        return len(self.pictures)

    def load(self, index):
        self.read += 1
        if self.pictures[index] is None:
            raise DataError("broken")

        class Picture:
            gt_class_ids = np.array(self.pictures[index], int)

        return Picture


@pytest.mark.parametrize(
    ("pictures", "expected", "said"),
    [
        ([[1]] * 19, Few(1, 1, 19, 2), "1 of 3 classes are seen in fewer than 20, and 2 in none, of the 19 pictures"),
        ([[1]] * 20, None, ""),
        ([[1, 2, 3, 3]] * 20, None, ""),  # a picture counts for each of its classes
        ([[1]] * 30 + [[2]] * 3 + [[3]] * 3, Few(2, 3, 36), "2 of 3 classes are seen in fewer than 20 of the 36 "),
        ([[1]] * 30 + [[2]] * 3, None, ""),  # `data check` names the one; the other can be learned
        (
            [[1]] * 19 + [None] * 5,
            Few(1, 1, 24, 2),
            "1 of 3 classes are seen in fewer than 20, and 2 in none, of the",
        ),
        ([[1]] * LOOKED_AT + [[2], [3]], None, ""),
        ([[]] * 5, None, ""),  # without objects: that is said by require_teachable
    ],
)
def test_too_few_pictures_for_random_weights(pictures, expected, said):
    assert too_few(Classes(*pictures)) == expected and str(expected).startswith(said)


def test_of_one_class_it_is_said_so():
    assert str(too_few(Classes([1], [1], listed=1))) == "the class is seen in fewer than 20 of the 2 pictures"


def test_no_more_is_read_than_it_takes():
    nuclei = Classes(*[[1, 1, 1]] * 200, listed=1)
    assert too_few(nuclei) is None and nuclei.read == 20
    half = Classes(*[[1], [2], [3]] * 60, listed=4)
    assert too_few(half) is None and half.read == 59  # two of at most four classes are seen 20 times
    many = Classes(*[[1]] * (LOOKED_AT + 1))
    assert too_few(many) is None and many.read == 0


def of_coco(root):
    tree = CocoTree(root).image(1).image(2).image(3).rectangle(1, 2, 3, 9, 9).rectangle(2, 2, 3, 9, 9, category=7)
    return COCODataset(tree.rectangle(3, 2, 3, 9, 9, segmentation=[]).save())


def of_voc(root):
    return VOCDataset(Tree(root).add("a").add("b").split())


OPENED = {k: (lambda root, k=k: open_dataset(k, BUILDERS[k](root))) for k in BUILDERS}
OPENED |= {"coco": of_coco, "voc": of_voc}


@pytest.mark.parametrize("kind", list(OPENED))
def test_what_a_data_set_knows_without_pixels_is_what_it_loads(kind, tmp_path):
    dataset = OPENED[kind](tmp_path / "mine")
    if not hasattr(dataset, "classes_in"):
        assert kind not in ("coco", "voc", "labelme", "via")
        return
    for index in range(len(dataset)):
        assert dataset.classes_in(index) == set(dataset.load(index).gt_class_ids.tolist())


def test_classes_that_are_known_are_not_loaded(tmp_path, monkeypatch):
    dataset = of_coco(tmp_path / "mine")
    monkeypatch.setattr(dataset, "load", lambda index: pytest.fail("it was read"))
    assert too_few(dataset) == Few(2, 2, 3)


def test_a_broken_file_of_annotations_is_passed_over(tmp_path):
    tree = Tree(tmp_path / "mine").add("a").add("b")
    dataset = VOCDataset(tree.split())
    dataset.layout.annotation("a").write_text("<annotation>")
    assert too_few(dataset).pictures == 2
