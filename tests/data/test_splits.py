"""What splits say of each other: pictures in two of them, classes that differ."""

import json

import numpy as np
import pytest
from all_named import all_named
from annotated_trees import BUILDERS, HEIGHT, WIDTH, labelme, labelme_document, save
from coco_tree import CocoTree
from PIL import Image

from mrcnn_np.data import COCODataset, Overview, check_dataset, compare_splits, generate, look_at, open_dataset
from mrcnn_np.data.splits import names_alike


def compared(kind, root, split="train", other="val"):
    """Return what is found when a split is checked beside another."""
    report = check_dataset(open_dataset(kind, root, split))
    wrong, advice = compare_splits(report.overview, [look_at(open_dataset(kind, root, other), other)])
    return all_named(wrong), all_named(advice)


def both(builder, root, *, train="a", val="b"):
    builder(root / "train", names=train)
    builder(root / "val", names=val)
    return root


@pytest.mark.parametrize("kind", list(BUILDERS))
def test_the_same_picture_in_two_splits(kind, tmp_path):
    assert compared(kind, both(BUILDERS[kind], tmp_path / "good")) == ([], [])
    root = both(BUILDERS[kind], tmp_path / "bad", train="ab")
    (finding,), advice = compared(kind, root)
    assert (finding.count, finding.of, finding.unit) == (1, 2, "images of split 'train'") and advice == []
    assert finding.text.startswith("are in split 'val', too") and "leave them out" in finding.text
    assert finding.example.startswith("b") and "which is b" in finding.example


def test_the_pixels_decide(tmp_path):
    """Another name and another file format, the same pixels; pictures of one colour are no sign."""
    root = both(labelme, tmp_path / "mine")
    with Image.open(root / "train" / "a.png") as picture:
        picture.save(root / "val" / "again.bmp")
    again = labelme_document("a") | {"imagePath": "again.bmp"}
    (root / "val" / "again.json").write_text(json.dumps(again))
    (finding,), _ = compared("labelme", root)
    assert finding.example == "a, which is again there"
    changed = np.asarray(Image.open(root / "val" / "again.bmp")).copy()
    changed[0, 0, 0] ^= 1
    save(root / "val" / "again.bmp", changed)
    wrong, (finding,) = compared("labelme", root)  # a look-alike is advice
    assert wrong == [] and finding.example == "a, which looks like again there"
    for path in root.rglob("*.png"):
        save(path, np.full((HEIGHT, WIDTH, 3), 7, np.uint8))
    assert compared("labelme", root) == ([], [])


def test_versions_of_one_photograph(tmp_path):
    """Roboflow writes NAME.rf.HASH.jpg for each version."""
    rng = np.random.default_rng(0)
    for split, names in (("train", ("p_jpg.rf.0a1", "q_jpg.rf.77")), ("val", ("p_jpg.rf.9f3",))):
        for name in names:
            root = tmp_path / "mine" / split
            save(root / f"{name}.png", rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
            (root / f"{name}.json").write_text(json.dumps(labelme_document("a") | {"imagePath": f"{name}.png"}))
    (finding,), _ = compared("labelme", tmp_path / "mine")
    assert finding.count == 1 and "another version of the same photograph" in finding.text
    assert finding.example == "p_jpg.rf.0a1, which is p_jpg.rf.9f3 there"


def relabel(path, *labels):
    document = json.loads(path.read_text())
    for shape, label in zip(document["shapes"], labels):
        shape["label"] = label
    path.write_text(json.dumps(document))


def test_classes_in_one_split_only(tmp_path):
    root = both(labelme, tmp_path / "mine")
    relabel(root / "train" / "a.json", "cat", "dog")
    relabel(root / "val" / "b.json", "dog")
    wrong, (cats,) = compared("labelme", root)
    assert wrong == [] and (cats.count, cats.of, cats.unit, cats.example) == (1, 2, "classes", "cat: 1")
    assert cats.text.startswith("have objects in split 'train' and none in split 'val'")
    relabel(root / "val" / "b.json", "cow")
    _, (gone, new) = compared("labelme", root)
    assert gone.example == "cat: 1, dog: 1"
    assert new.example == "cow: 1" and new.text.startswith("have objects in split 'val' and none in split 'train'")


def coco(tmp_path, categories):
    """Two splits of COCO's layout; ``categories`` are those of val."""
    root = CocoTree(tmp_path / "coco").image(1).image(2).rectangle(1, 2, 3, 9, 9).rectangle(2, 5, 5, 9, 9, category=7)
    root.save()
    used = [c["id"] for c in categories][:2]
    objects = [a | {"category_id": used[k]} for k, a in enumerate(root.content["annotations"])]
    val = root.content | {"annotations": objects, "categories": categories}
    (root.root / "annotations" / "instances_val.json").write_text(json.dumps(val))
    (root.root / "images" / "val").symlink_to(root.images)
    return compared("coco", root.root)


@pytest.mark.parametrize(
    ("categories", "count", "example"),
    [
        ({3: "dog", 7: "cat"}, 2, "cat is 3 in 'train' and 7 in 'val', dog is 7 in 'train' and 3 in 'val'"),
        ({3: "cat", 8: "dog"}, 1, "dog is 7 in 'train' and 8 in 'val'"),
        ({3: "cat", 7: "hound"}, 1, "7 is dog in 'train' and hound in 'val'"),
    ],
)
def test_classes_that_are_numbered_differently(categories, count, example, tmp_path):
    wrong, _ = coco(tmp_path, [{"id": n, "name": name} for n, name in categories.items()])
    (finding,) = wrong
    assert (finding.count, finding.of, finding.example) == (count, 2, example)
    assert "give each class one number and one name" in finding.text


def test_the_same_numbers_in_another_order_and_a_class_more(tmp_path):
    wrong, advice = coco(tmp_path, [{"id": n, "name": name} for n, name in ((7, "dog"), (3, "cat"), (9, "cow"))])
    assert wrong == [] and advice == []


def spelt_differently(root):
    """Return what is said of classes that differ by capitals, spaces or dashes: one finding."""
    _, advice = compared("labelme", root)
    (finding,) = [f for f in advice if "capitals" in f.text]
    return finding


def test_names_that_differ_by_their_spelling(tmp_path):
    root = both(labelme, tmp_path / "mine")
    relabel(root / "train" / "a.json", "Fire truck", "dog")
    relabel(root / "val" / "b.json", "fire_truck")
    finding = spelt_differently(root)
    assert (finding.count, finding.of) == (1, 3)
    assert finding.example == (
        "'Fire truck' (1 object) and 'fire_truck' (1 object), the latter in image b of split 'val'"
    )


def test_pictures_of_a_misspelt_name_are_named_and_counted(tmp_path):
    root = both(labelme, tmp_path / "mine")
    for number in range(7):
        for suffix in ("json", "png"):
            (root / "train" / f"c{number}.{suffix}").write_bytes((root / "train" / f"a.{suffix}").read_bytes())
        relabel(root / "train" / f"c{number}.json", "dog", "Dog")
    relabel(root / "train" / "a.json", "dog", "dog")
    relabel(root / "val" / "b.json", "Dog")
    finding = spelt_differently(root)
    assert finding.example == (
        "'dog' (9 objects) and 'Dog' (8 objects), the latter in 7 images (c0 (a.png), c1 (a.png), c2 (a.png), "
        "c3 (a.png), c4 (a.png) and 2 more) of split 'train' and image b of split 'val'"
    )


def test_of_a_name_in_three_spellings_each_is_named_beside_the_usual_one(tmp_path):
    root = both(labelme, tmp_path / "mine")
    relabel(root / "train" / "a.json", "Fire truck", "fire_truck")
    relabel(root / "val" / "b.json", "firetruck")
    finding = spelt_differently(root)
    assert finding.count == 2 and finding.concerns == (
        "'Fire truck' (1 object) and 'fire_truck' (1 object), the latter in image a of split 'train'",
        "'Fire truck' (1 object) and 'firetruck' (1 object), the latter in image b of split 'val'",
    )


def test_a_misspelt_name_is_found_in_one_split_by_its_rareness(tmp_path):
    root = labelme(tmp_path / "mine")
    document = labelme_document("b")
    document["shapes"] = [document["shapes"][0] | {"label": name} for name in ["person"] * 20 + ["persn", "car"]]
    (root / "b.json").write_text(json.dumps(document))
    relabel(root / "a.json", "person", "person")
    _, (finding,) = compare_splits(check_dataset(open_dataset("labelme", root)).overview, [])
    assert (finding.count, finding.of, finding.unit) == (1, 3, "classes")
    assert finding.example == "'person' (22 objects) and 'persn' (1 object), the latter in image b of split 'train'"
    assert "by one letter only; if they are one class" in finding.text and "labelme's label" in finding.text


def test_train_is_told_of_a_misspelt_name_without_reading_pixels(tmp_path):
    root = labelme(tmp_path / "mine")
    for number in range(20):
        for suffix in ("json", "png"):
            (root / f"a{number}.{suffix}").write_bytes((root / f"a.{suffix}").read_bytes())
        relabel(root / f"a{number}.json", "bolt", "nut")
    relabel(root / "a.json", "blot", "nut")
    relabel(root / "b.json", "nut", "nut")
    for path in root.glob("*.png"):
        path.write_bytes(b"")
    (said,) = names_alike(open_dataset("labelme", root))
    assert said.startswith(
        "classes 'bolt' (in 20 images) and 'blot' (in 1 image) differ by one letter only, the last seen in "
        "image a; if they are one class, spell it one way in all files"
    )
    relabel(root / "a.json", "bolt", "nut")
    assert names_alike(open_dataset("labelme", root)) == []


def test_large_splits_are_looked_at_in_part_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr("mrcnn_np.data.splits.LOOKED_AT", 2)
    root = generate(tmp_path / "shapes", train=5, val=1, size=64)
    seen = look_at(open_dataset("shapes", root), "train")
    assert seen.looked_at == 2 and seen.where == "split 'train' (2 of 5 images looked at)"


def test_what_cannot_be_read_is_passed_over(tmp_path):
    root = both(labelme, tmp_path / "mine", val="ab")
    (root / "val" / "b.png").write_bytes(b"")
    seen = look_at(open_dataset("labelme", root, "val"), "val")
    assert (seen.images, seen.looked_at) == (2, 1) and seen.objects == {"object": 2}
    nothing = Overview.of(COCODataset(CocoTree(tmp_path / "coco").image(1).save()), "val")
    assert compare_splits(nothing, [nothing]) == ([], [])
