"""What is read of a run's folder: finished, interrupted, extended, damaged."""

import json
import re

import pytest
from made_runs import LOSSES, make_run

from mrcnn_np.errors import UserError
from mrcnn_np.training.finished import Measured, read_result, worth


def test_a_finished_run(tmp_path):
    make_run(tmp_path / "a", steps=6, box=0.5, mask=0.25)
    result = read_result(tmp_path / "a")
    assert (result.steps, result.seconds, result.images, result.missing) == (6, 3.0, 20, "")
    assert result.losses == LOSSES
    box, mask = (result.evaluation["val"][kind] for kind in ("box", "mask"))
    assert (box.ap50, mask.ap50, box.images) == (0.5, 0.25, 4)
    assert box.objects == {"cat": 3, "dog": 1}, "classes without an object count for nothing"


def test_a_class_that_was_never_taught_is_no_measure(tmp_path):
    """One object of it found more is nothing that can happen."""
    measured = Measured(0.0, 4, {"person": 21, "sheep": 13})
    assert "'sheep', of which there is least (13), is 1/2 of AP" in worth(measured)
    assert "'person', of which there is least (21), is 1/2 of AP" in worth(measured, ("sheep",))
    assert "'sheep'" in worth(measured, ("person", "sheep"))
    make_run(tmp_path / "a")
    facts = json.loads((tmp_path / "a" / "summary.json").read_text())
    (tmp_path / "a" / "summary.json").write_text(json.dumps(facts | {"untaught": ["sheep"]}))
    assert read_result(tmp_path / "a").untaught == ("sheep",)


def test_an_interrupted_run_says_how_far_it_came_and_how_to_go_on(tmp_path):
    folder = make_run(tmp_path / "a", steps=60, done=52, finished=False)
    result = read_result(tmp_path / "a")
    assert (result.steps, result.seconds, result.evaluation) == (52, 26.0, {})
    assert result.losses == pytest.approx(LOSSES)
    assert "no summary.json" in result.missing and "52 of 60 steps" in result.missing
    assert f"train --out {folder} --resume" in result.missing


def test_a_run_killed_before_its_first_step(tmp_path):
    make_run(tmp_path / "a", steps=6, done=0, finished=False)
    for name in ("metrics.jsonl", "timings.jsonl"):
        (tmp_path / "a" / name).unlink()
    result = read_result(tmp_path / "a")
    assert (result.steps, result.seconds, result.losses) == (0, 0.0, {})
    assert "0 of 6 steps" in result.missing


def test_a_finished_run_that_was_made_longer_and_interrupted(tmp_path):
    make_run(tmp_path / "a", steps=4)
    with open(tmp_path / "a/metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 5, **LOSSES}) + "\n")
    result = read_result(tmp_path / "a")
    assert result.steps == 4 and "is of step 4, and training went on to step 5" in result.missing


def test_a_network_with_keypoints_and_no_objects(tmp_path):
    make_run(tmp_path / "a")
    path = tmp_path / "a/summary.json"
    summary = json.loads(path.read_text())
    nothing = {"method": "coco", "images": 2, "AP": -1.0, "AP50": -1.0, "classes": {"person": None}}
    summary["evaluation"]["val"]["keypoints"] = nothing
    path.write_text(json.dumps(summary))
    measured = read_result(tmp_path / "a").evaluation["val"]["keypoints"]
    assert (measured.ap50, measured.images, measured.objects) == (None, 2, {})


@pytest.mark.parametrize(("written", "read"), [(None, None), (-1.0, None), (0.5, 0.5)])
def test_cocos_ap_is_of_one_kind_and_older_runs_lack_it(tmp_path, written, read):
    make_run(tmp_path / "a", coco=written)
    val = read_result(tmp_path / "a").evaluation["val"]
    assert (val["box"].coco_ap, val["mask"].coco_ap) == (None, read)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("summary.json", '{"steps": 4', "summary.json is not JSON"),
        ("summary.json", "[]", "summary.json is a list of 0; expected an object"),
        ("summary.json", '{"steps": "many"}', "summary.json"),
        ("summary.json", '{"steps": 9, "images": 1, "training_seconds": 1, "losses_of_last_steps": {}, '
         '"evaluation": {}}', "metrics.jsonl ends after step 4, but summary.json beside it is of 9 steps"),
        ("summary.json", '{"steps": 4, "images": 1, "training_seconds": 1, "losses_of_last_steps": {}, '
         '"evaluation": {"val": {"box": 3}}}', "summary.json: val, box is 3; expected an object"),
        ("summary.json", '{"steps": 4, "images": 1, "training_seconds": 1, "losses_of_last_steps": {}, '
         '"evaluation": {"val": {"coco": {"iou_type": "mask"}}}}', "summary.json: val, coco"),
        ("config.json", '{"name": "tiny", "num_classes": 4, "colour": 1}', "unknown config field 'colour'"),
        ("config.json", "\x00", "config.json is not JSON"),
        ("metrics.jsonl", '{"step": 1, "loss": "low"}\n', "line 1 of"),
        ("metrics.jsonl", "{", "metrics.jsonl ends after step 0"),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path, name, text, said):
    make_run(tmp_path / "a")
    (tmp_path / "a" / name).write_text(text)
    with pytest.raises(UserError, match=re.escape(said)) as error:
        read_result(tmp_path / "a")
    assert name in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_run(tmp_path):
    make_run(tmp_path / "all/a")
    (tmp_path / "file").write_text("x")
    for path, said in ((tmp_path / "nothing", "does not exist"), (tmp_path / "file", "is no folder"),
                       (tmp_path / "all", f"runs lie in it, such as {tmp_path / 'all/a'}")):  # fmt: skip
        with pytest.raises(UserError, match="expected") as error:
            read_result(path)
        assert said in str(error.value)
