"""``mrcnn-np runs``: settings and results beside each other, and what is said of their difference."""

import json
import re

import pytest
from made_runs import make_run

from mrcnn_np.cli.main import main


def compared(capsys, *folders, code=0):
    """Run the command; return its lines by their first column, and everything that it says."""
    assert main(["runs", *folders]) == code
    said = capsys.readouterr()
    lines = [re.split(r" {2,}", line.strip()) for line in said.out.splitlines()]
    return {cells[0]: cells[1:] for cells in lines}, said


def test_two_runs(tmp_path, capsys):
    a = make_run(tmp_path / "a", box=0.5, mask=0.25)
    b = make_run(tmp_path / "b", box=0.4, mask=0.375, fields={"anchor_sizes": (8.0, 16.0, 32.0, 64.0, 96.0)})
    rows, said = compared(capsys, a, b)
    assert rows["anchor_sizes"] == ["[12.0, 20.0, 32.0, 52.0, 84.0]", "[8.0, 16.0, 32.0, 64.0, 96.0]"]
    assert "learning_rate" not in rows and "--data" not in rows
    assert rows["steps done"] == ["4 of 4", "4 of 4"] and rows["training"] == ["2.0 s", "2.0 s"]
    assert rows["loss"] == ["2.000", "2.000"]
    assert rows["val: box AP50"] == ["0.500", "0.400 (-0.100)"]
    assert rows["val: mask AP50"] == ["0.250", "0.375 (+0.125)"]
    assert "on 4 objects in 4 images: so few that small differences mean little" in said.out
    assert "'dog', of which there is least (1), is 1/2 of AP" in said.out
    assert "warning" not in said.out and "schedule" not in said.out and said.err == ""


def test_cocos_ap_tells_runs_apart_whose_ap50_is_the_same(tmp_path, capsys):
    folders = [make_run(tmp_path / name, mask=0.999, coco=ap) for name, ap in (("a", 0.757), ("b", 0.877), ("c", None))]
    rows, said = compared(capsys, *folders)
    assert rows["val: mask AP50"] == ["0.999", "0.999 (+0.000)", "0.999 (+0.000)"]
    assert rows["val: COCO mask AP"] == ["0.757", "0.877 (+0.120)", "-"] and "COCO box AP" not in said.out


def test_one_run_beside_its_preset(tmp_path, capsys):
    a = make_run(tmp_path / "a", seed=3, fields={"learning_rate": 0.01}, backend="cpu", threads=2)
    rows, _ = compared(capsys, a)
    assert rows["learning_rate"] == ["0.05", "0.01"] and rows["steps"] == ["1500", "4"]
    assert rows["--seed"] == ["0", "3"] and rows["--data"] == ["shapes", "voc"]
    assert "--threads" not in rows and "preset" not in rows


def test_the_same_run_twice(tmp_path, capsys):
    a = make_run(tmp_path / "a")
    rows, _ = compared(capsys, a, a)
    assert "no setting differs" in rows and rows["val: box AP50"] == ["0.500", "0.500 (+0.000)"]


def test_minutes_plan_another_warm_up_than_steps(tmp_path, capsys):
    a = make_run(tmp_path / "a", minutes=2.0, fields={"warmup_steps": 0})
    b = make_run(tmp_path / "b", fields={"warmup_steps": 50})
    rows, said = compared(capsys, a, b)
    assert rows["warmup_steps"] == ["0", "50"] and rows["--minutes"] == ["2.0", "-"]
    assert f"the schedules differ, too ({a}: warmup_steps 0; {b}: warmup_steps 50): --minutes planned {a}," in said.out
    assert "give all runs the same --steps" in said.out


def test_other_numbers_of_steps(tmp_path, capsys):
    _, said = compared(capsys, make_run(tmp_path / "a"), make_run(tmp_path / "b", steps=8))
    assert "planned for different numbers of steps" in said.out and "--minutes" not in said.out


def test_held_out_images_that_differ(tmp_path, capsys):
    a = make_run(tmp_path / "a", val_fraction=0.1)
    b = make_run(tmp_path / "b", val_fraction=0.3, objects={"cat": 9, "dog": 2, "emu": 2})
    _, said = compared(capsys, a, b)
    assert "warning: the runs held out different images (--val-fraction)" in said.out
    assert f"in {a} on 4 objects" in said.out and f"in {b} on 13 objects" in said.out


def test_a_share_that_drew_nothing_is_no_difference(tmp_path, capsys):
    """A data set with a split val of its own: the share changes nothing, and the numbers show it."""
    a, b = make_run(tmp_path / "a", val_fraction=0.1), make_run(tmp_path / "b", val_fraction=0.3)
    assert "warning" not in compared(capsys, a, b)[1].out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"root": "/data/other"}, "used different data (--root)"),
        ({"subset": 5}, "trained on different images (--subset)"),
        ({"objects": {"cat": 2, "dog": 1, "emu": 0}}, "it changed between the runs"),
        ({"weights": "/w.pth"}, "started from different weights"),
        ({"seed": 1}, "nothing but the seed differs: so much do these numbers differ by chance"),
        ({"seed": 1, "fields": {"learning_rate": 0.01}}, "the seeds differ, too"),
        ({"threads": 2}, "--threads differ: sums are taken in another order"),
    ],
)
def test_what_differs_besides(tmp_path, capsys, options, said):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", **options)
    assert said in compared(capsys, a, b)[1].out


def test_an_interrupted_run_is_shown_and_named(tmp_path, capsys):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", steps=8, done=3, finished=False)
    rows, said = compared(capsys, a, b, code=2)
    assert rows["steps done"] == ["4 of 4", "3 of 8"] and rows["loss"] == ["2.000", "2.000"]
    assert rows["val: box AP50"] == ["0.500", "-"] and rows["images trained on"] == ["20", "-"]
    assert said.err.startswith(f"error: {b} has no summary.json") and "3 of 8 steps" in said.err


def test_a_run_that_was_not_evaluated(tmp_path, capsys):
    a = make_run(tmp_path / "a")
    path = tmp_path / "a/summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"evaluation": {}}))
    assert f"`mrcnn-np eval --run {a}` measures it" in compared(capsys, a)[1].out


def test_a_split_without_objects(tmp_path, capsys):
    a = make_run(tmp_path / "a", box=None, mask=None, objects={"cat": 0, "dog": 0, "emu": 0})
    rows, said = compared(capsys, a)
    assert rows["val: box AP50"] == ["-"] and "on 4 images; on few images" in said.out


def test_the_numbers_as_json(tmp_path, capsys):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", seed=1)
    out = tmp_path / "new" / "runs.json"
    assert main(["runs", a, b, "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert [run["run"] for run in written["runs"]] == [a, b] and written["settings"] == {"--seed": [0, 1]}
    assert written["runs"][0]["evaluation"]["val"]["mask"]["ap50"] == 0.25 and written["notes"]
    assert f"written to {out}" in capsys.readouterr().out


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys):
    a = make_run(tmp_path / "a")
    broken = make_run(tmp_path / "b")
    (tmp_path / "b/options.json").write_text('{"seed": "one"}')
    for arguments, said in (
        ([a, str(tmp_path / "nothing")], "does not exist"),
        ([str(tmp_path)], "is no run"),
        ([broken], "options.json['seed'] is 'one'; expected a whole number"),
        ([a, "--out", str(tmp_path)], "it is a folder; expected the name of a file"),
    ):
        assert main(["runs", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and said in error and error.count("\n") == 1
