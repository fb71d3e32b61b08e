"""``mrcnn-np data``: check, and what does nothing."""

import json

import pytest
from annotated_trees import labelme
from coco_tree import CocoTree
from small_run import copy_shapes

from mrcnn_np.cli import data as commands
from mrcnn_np.cli.main import main
from mrcnn_np.data import open_dataset


def test_data_check(shapes, tmp_path, capsys):
    assert main(["data", "check", "--root", shapes, "--split", "val"]) == 0
    assert "problems   none" in capsys.readouterr().out
    root = copy_shapes(shapes, tmp_path / "shapes")
    (root / "VOC2012" / "JPEGImages" / "val_000001.jpg").unlink()
    good = tmp_path / "good.txt"
    assert main(["data", "check", "--root", str(root), "--split", "val", "--good-ids", str(good)]) == 2
    assert "val_000001" in capsys.readouterr().out
    assert good.read_text() == "val_000000\n"


def test_data_voc_without_download_does_nothing(tmp_path, capsys):
    assert main(["data", "voc", "--root", str(tmp_path)]) == 2
    assert "--download" in capsys.readouterr().err


def test_check_compares_splits(tmp_path, capsys):
    root = tmp_path / "mine"
    labelme(root / "train")
    labelme(root / "val", names="b")
    assert main(["data", "check", "--data", str(root), "--quiet"]) == 2
    said = capsys.readouterr().out
    assert "problems   1\n  1 of 2 images of split 'train': are in split 'val', too, pixel for pixel" in said
    # what is asked for by its ids is looked at alone
    assert main(["data", "check", "--data", str(root), "--quiet", "--subset", "2"]) == 0
    tree = CocoTree(tmp_path / "coco").image(1).rectangle(1, 2, 3, 9, 9)
    damaged = tree.save() / "annotations" / "instances_val.json"
    damaged.write_text("{")
    assert main(["data", "check", "--data", str(tree.root), "--quiet"]) == 0
    assert f"not compared with split 'val': {damaged}: " in capsys.readouterr().err


def test_check_advises_for_a_preset_and_a_size(tmp_path, capsys):
    root = str(labelme(tmp_path / "mine"))
    assert main(["data", "check", "--data", root, "--quiet", "--size", "32"]) == 0
    said = capsys.readouterr().out
    assert (
        "advice     2\n  1 of 3 objects: are too small for the mask head: at the training size (preset tiny, 32" in said
    )
    assert "1 of 1 classes: are seen in fewer than 20 images" in said
    assert "problems   none" in said
    assert main(["data", "check", "--data", root, "--quiet", "--preset", "small"]) == 0
    assert "advice     1\n  1 of 1 classes: are seen in fewer than 20 images" in capsys.readouterr().out
    assert main(["data", "check", "--data", root, "--quiet", "--preset", "small", "--split", "val"]) in (0, 2)
    assert "fewer than" not in capsys.readouterr().out


def test_problems_say_what_to_do(tmp_path, capsys):
    root = labelme(tmp_path / "mine")
    (root / "a.png").write_bytes(b"")
    assert main(["data", "check", "--data", str(root), "--quiet"]) == 2
    assert (
        "1 of 2 images cannot be used as they are; mend them, or leave them out: --good-ids FILE"
        in capsys.readouterr().out
    )


def rewritten(root, name, **values):
    document = json.loads((root / f"{name}.json").read_text())
    (root / f"{name}.json").write_text(json.dumps(document | values))


def test_a_report_as_json_names_all_that_each_line_concerns(tmp_path, capsys):
    root, out = labelme(tmp_path / "mine", names="a"), tmp_path / "new" / "check.json"
    for name in ("copy0", "copy1", "copy2", "copy3", "broken", "empty"):
        (root / f"{name}.png").write_bytes((root / "a.png").read_bytes())
        (root / f"{name}.json").write_bytes((root / "a.json").read_bytes())
        rewritten(root, name, imagePath=f"{name}.png")
    (root / "broken.png").write_bytes(b"")
    rewritten(root, "empty", shapes=[])
    check = ["data", "check", "--data", str(root), "--quiet"]
    assert main(check) == 2
    short = capsys.readouterr().out.splitlines()
    assert short[-1] == "the lines above name only the first of what they concern; --json FILE names all of it"
    assert main([*check, "--json", str(out)]) == 2
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"all that was found, with every image, object and class that it concerns, is in {out}"
    assert said[:-1] == short[:-1]
    report = json.loads(out.read_text())
    assert list(report) == ["split", "images", "empty", "classes", "unusable", "findings", "advice", "remarks"]
    assert (report["split"], report["images"], report["empty"], report["remarks"]) == ("train", 6, 1, [])
    assert report["classes"] == {"object": {"instances": 10, "pictures": 5}}
    (broken,) = report["unusable"]
    assert broken["id"] == "broken" and str(root / "broken.png") in broken["reason"]
    (wrong,) = report["findings"]
    assert wrong["text"].startswith("are another image of this split") and wrong["text"] in "".join(said)
    assert wrong | {"text": ""} == {
        "text": "", "count": 1, "of": 6, "unit": "images", "fatal": False,
        "concerns": ["empty has nothing, and a has 2 x object"],
    }  # fmt: skip
    copies = next(one for one in report["advice"] if "same objects" in one["text"])
    assert copies["concerns"] == [f"copy{n}, which is a" for n in range(4)]
    assert all(len(one["concerns"]) == one["count"] for one in report["advice"]) and len(report["advice"]) == 2


def test_where_all_is_named_no_more_is_promised(tmp_path, capsys):
    root = str(labelme(tmp_path / "mine"))
    assert main(["data", "check", "--data", root, "--quiet", "--preset", "small"]) == 0
    said = capsys.readouterr().out
    assert "advice     1" in said and "--json" not in said


@pytest.mark.parametrize("option", ["--json", "--good-ids"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(option, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    check = ["data", "check", "--data", "missing", option]  # which would be complained of first
    assert main([*check, "folder"]) == 2
    assert "cannot write folder: it is a folder; expected the name of a file" in capsys.readouterr().err
    assert main([*check, "file/check.json"]) == 2
    assert "cannot write into file: " in capsys.readouterr().err
    assert main([*check, "new/check.json"]) == 2
    assert "missing" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_pictures_of_numbers_are_called_like_their_files(tmp_path, capsys):
    root = CocoTree(tmp_path / "coco").image(139).rectangle(139, 2, 3, 9, 9).save()
    assert main(["data", "show", "--data", str(root), "--out", str(tmp_path / "out")]) == 0
    path = tmp_path / "out" / "139_000000000139_truth.png"
    assert f"139 (000000000139.png): 1 x cat -> {path}" in capsys.readouterr().out and path.is_file()


def test_a_crowd_is_told_from_an_object(tmp_path, capsys, monkeypatch):
    tree = CocoTree(tmp_path / "coco").image(139).rectangle(139, 2, 3, 9, 9).rectangle(139, 5, 5, 20, 20, iscrowd=1)
    drawn = []
    monkeypatch.setattr(commands, "draw_instances", lambda *args, **words: drawn.append(words))
    assert main(["data", "show", "--data", str(tree.save()), "--out", str(tmp_path / "out")]) == 0
    assert "139 (000000000139.png): 1 x cat, 1 x cat (crowd) -> " in capsys.readouterr().out
    assert drawn[0]["captions"] == ["cat", "cat (crowd)"]
    assert drawn[0]["title"] == "139 (000000000139.png): 1 object, 1 crowd"


def test_a_drawn_share_is_checked_and_shown(tmp_path, capsys):
    """The same images that `train --val-fraction` holds out."""
    root, out = str(labelme(tmp_path / "mine")), tmp_path / "out"
    held = open_dataset("labelme", root, "val", val_fraction=0.5).ids
    given = ["--data", root, "--quiet", "--val-fraction", "0.5"]
    assert main(["data", "show", *given, "--split", "val", "--out", str(out)]) == 0
    assert [path.name for path in out.iterdir()] == [f"{held[0]}_truth.png"]
    said = capsys.readouterr().out
    assert (
        "split 'val': 1 image, drawn by a hash of their names (--val-fraction 0.5), as there is no split 'val'" in said
    )
    assert main(["data", "check", *given]) == 0
    said = capsys.readouterr().out
    assert "split 'train': 1 image, drawn" in said and "images     1" in said
    # where there is a split, the option has nothing to draw
    labelme(tmp_path / "both" / "train")
    labelme(tmp_path / "both" / "val", names="a")
    assert main(["data", "check", "--data", str(tmp_path / "both"), "--quiet", "--val-fraction", "0.5"]) == 2
    assert "drawn by" not in capsys.readouterr().out


def test_how_to_hold_out_where_no_split_is_held_out(tmp_path, capsys):
    tree = CocoTree(tmp_path / "coco").image(139).image(140).rectangle(139, 2, 3, 9, 9).rectangle(140, 2, 3, 9, 9)
    show = ["data", "show", "--data", str(tree.save()), "--out", str(tmp_path / "out")]
    hint = "--val-fraction 0.1 takes a part of split 'train' for it, as `train` does"
    assert main([*show, "--split", "val"]) == 2
    assert hint in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*show, "--split", "test"]) == 2 and "--val-fraction" not in capsys.readouterr().err
    assert main([*show, "--split", "val", "--val-fraction", "0.5"]) == 0


def test_a_copy_in_the_drawn_share_is_found(tmp_path, capsys):
    """One photograph under two names may be drawn into both halves."""
    root = labelme(tmp_path / "mine", names="a")
    for k in range(6):
        (root / f"copy{k}.png").write_bytes((root / "a.png").read_bytes())
        (root / f"copy{k}.json").write_text((root / "a.json").read_text().replace("a.png", f"copy{k}.png"))
    assert main(["data", "check", "--data", str(root), "--quiet", "--val-fraction", "0.3"]) == 2
    assert "of split 'train': are in split 'val', too" in capsys.readouterr().out


def test_show_says_how_many_images_it_leaves_out(tmp_path, capsys):
    root, out = labelme(tmp_path / "mine", names="a"), tmp_path / "out"
    for k in range(9):
        (root / f"b{k}.png").write_bytes((root / "a.png").read_bytes())
        (root / f"b{k}.json").write_text((root / "a.json").read_text().replace("a.png", f"b{k}.png"))
    show = ["data", "show", "--data", str(root), "--out", str(out)]
    assert main(show) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "8 of 10 images; --subset N shows more"
    assert len(list(out.iterdir())) == 8
    assert main([*show, "--subset", "10"]) == main([*show, "--subset", "11"]) == 0
    assert "--subset N" not in capsys.readouterr().out and len(list(out.iterdir())) == 10
    for command, default in (("show", "8"), ("check", "all")):
        with pytest.raises(SystemExit):
            main(["data", command, "--help"])
        assert f"the first N images only (default: {default})" in " ".join(capsys.readouterr().out.split())
