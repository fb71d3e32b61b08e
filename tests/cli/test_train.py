"""``mrcnn-np train``, end to end with the real network: a few steps on a few generated images."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from small_run import SMALL, bits, copy_shapes, train

from mrcnn_np.cli import splits
from mrcnn_np.cli.main import main
from mrcnn_np.cli.options import Options
from mrcnn_np.training.checkpoint import load_checkpoint
from mrcnn_np.training.run_folder import read_steps

WRITTEN = ["checkpoint.safetensors", "config.json", "metrics.jsonl", "options.json", "summary.json", "summary.md"]


def test_a_run_leaves_everything(trained):
    assert all((trained / name).stat().st_size for name in WRITTEN)
    assert not list(trained.glob("*.tmp"))
    assert {p.name for p in (trained / "pictures").iterdir()} == {
        "losses.png", "detections_train.png", "detections_val.png", "precision_recall_train.png",
        "precision_recall_val.png",
    }  # fmt: skip
    rows = read_steps(trained / "metrics.jsonl")
    assert len(rows) == 4
    summary = json.loads((trained / "summary.json").read_text())
    assert set(summary["evaluation"]) == {"train", "val"}
    assert summary["evaluation"]["val"]["mask"]["method"] == "voc10"
    assert summary["images"] == 6
    assert summary["skipped"] == {}
    assert summary["parameters"] > 100_000
    assert summary["peak_memory_mib"]["training"] > 50
    report = (trained / "summary.md").read_text()
    assert "## val: mask" in report
    assert f"**val: box AP50 {summary['evaluation']['val']['box']['mean_ap']:.3f}, mask AP50 " in report
    config = json.loads((trained / "config.json").read_text())
    assert (config["num_classes"], config["image_max_size"], config["warmup_steps"]) == (4, 64, 2)
    (unlike,) = (line for line in report.splitlines() if line.startswith("- unlike the preset: "))
    assert "image_max_size=64" in unlike and "warmup_steps=2" in unlike and "num_classes" not in unlike
    assert summary["changed"]["image_max_size"] == 64


def test_cocos_ap_stands_beside_as_eval_measures_it(trained, tmp_path):
    beside = json.loads((trained / "summary.json").read_text())["evaluation"]["val"]["coco"]
    out = tmp_path / "eval.json"
    assert main(["eval", "--run", str(trained), "--method", "coco", "--out", str(out), "--quiet"]) == 0
    assert json.loads(out.read_text())["mask"] == beside and beside["iou_type"] == "mask"
    report, page = ((trained / name).read_text() for name in ("summary.md", "report.html"))
    assert f", COCO mask AP {beside['AP']:.3f}**" in report and report.count("COCO AP") == 4
    assert page.count("COCO mask AP") == 2


def test_one_seed_one_result_also_from_another_folder(trained, shapes, tmp_path):
    assert train(shapes, tmp_path / "b") == 0
    assert bits(tmp_path / "b") == bits(trained)


def test_a_config_file_gives_the_same_run(trained, shapes, tmp_path):
    options = ["--batch-size", "2", "--checkpoint-every", "3", "--quiet", "--no-eval", "--no-pictures"]
    out = tmp_path / "b"
    config = str(trained / "config.json")
    assert main(["train", "--root", shapes, "--out", str(out), "--config", config, *options]) == 0
    assert bits(out) == bits(trained)


def test_ctrl_c_says_how_to_go_on(trained, shapes, tmp_path, monkeypatch, capsys):
    import mrcnn_np.training.loop as module

    def interrupted(*args, step, **kwargs):
        if step == 3:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    real = module.train_step
    with monkeypatch.context() as patch:
        patch.setattr(module, "train_step", interrupted)
        assert train(shapes, tmp_path / "b") == 130
    message = capsys.readouterr().err
    assert "checkpoint of step 2 is kept" in message
    assert f"mrcnn-np train --out {tmp_path / 'b'} --resume" in message
    # the options are remembered
    assert main(["train", "--out", str(tmp_path / "b"), "--resume", "--quiet", "--no-eval", "--no-pictures"]) == 0
    assert bits(tmp_path / "b") == bits(trained)


def test_a_run_to_go_on_with_has_to_be_there(tmp_path, capsys, monkeypatch):
    """A letter too few must not begin another training on the embedded shapes."""
    monkeypatch.chdir(tmp_path)
    run, wrong = tmp_path / "street-small", tmp_path / "street-smal"
    run.mkdir()
    (run / "checkpoint.safetensors").write_bytes(b"")
    assert main(["train", "--out", str(wrong), "--resume", "--quiet"]) == 2
    message = capsys.readouterr().err
    assert f"there is no run in {wrong}; did you mean 'street-small'?" in message and "--data" in message
    assert main(["train", "--out", "nowhere/runs/x", "--resume"]) == 2
    assert "there is no run in nowhere/runs/x; expected the folder of one" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [run]


def test_kill_minus_nine_and_resume(trained, shapes, tmp_path):
    out = tmp_path / "b"
    command = [sys.executable, "-m", "mrcnn_np", "train", "--root", shapes, "--out", str(out), "--no-eval", *SMALL]
    process = subprocess.Popen([*command, "--no-pictures"], stderr=subprocess.PIPE)
    while process.poll() is None and not (out / "timings.jsonl").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert main(["train", "--out", str(out), "--resume", "--quiet", "--no-eval", "--no-pictures"]) == 0
    assert bits(out) == bits(trained)


def test_resuming_a_finished_run_evaluates_it_again(trained, tmp_path):
    out = tmp_path / "b"
    shutil.copytree(trained, out)
    (out / "summary.json").unlink()
    assert main(["train", "--out", str(out), "--resume", "--quiet", "--no-pictures"]) == 0
    before, after = (json.loads((folder / "summary.json").read_text()) for folder in (trained, out))
    assert after["evaluation"]["val"]["mask"] == before["evaluation"]["val"]["mask"]
    assert bits(out) == bits(trained)


def test_a_bad_held_out_image_is_named_before_training(shapes, tmp_path, capsys):
    root, out = copy_shapes(shapes, tmp_path / "shapes"), tmp_path / "b"
    command = ["train", "--root", str(root), "--out", str(out), "--no-pictures", *SMALL]
    (root / "VOC2012" / "JPEGImages" / "val_000001.jpg").unlink()
    assert main(command) == 2
    message = capsys.readouterr().err
    assert "val_000001" in message and "--skip-bad" in message
    assert not out.exists()
    assert main([*command, "--skip-bad"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["evaluation"]["val"]["skipped"]) == ["val_000001"]
    assert "images skipped because they cannot be read: 1" in (out / "summary.md").read_text()
    (root / "VOC2012" / "JPEGImages" / "val_000000.jpg").unlink()
    assert main(["train", "--out", str(out), "--resume", "--quiet"]) == 2  # --skip-bad is remembered
    assert "none of the 2 images can be read; the last error: " in capsys.readouterr().err
    assert load_checkpoint(out / "checkpoint.safetensors").step == 4


def test_no_held_out_images(shapes, tmp_path, capsys):
    root = copy_shapes(shapes, tmp_path / "shapes")
    (root / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt").unlink()
    command = ["train", "--root", str(root), "--out", str(tmp_path / "b"), "--no-pictures", *SMALL]
    assert main([*command, "--val-fraction", "0"]) == 2
    message = capsys.readouterr().err
    assert "there are no held-out images: " in message and "--val-split" in message and "--eval-splits train" in message
    assert main([*command, "--eval-splits", "train", "--steps", "1"]) == 0
    assert main([*command, "--overwrite", "--steps", "1"]) == 0
    said = capsys.readouterr().out
    assert "held out: 1 of 6 images, drawn by a hash of their names (--val-fraction 0.1)" in said
    assert "; that is 17%: hashes of few names fall unevenly" in said
    (share, count) = re.search(
        r"on so few AP says little; the same command with --val-fraction (\S+) --overwrite holds out (\d)", said
    ).groups()
    assert int(count) == 2
    assert main([*command, "--overwrite", "--steps", "1", "--val-fraction", share]) == 0
    said = capsys.readouterr().out
    assert f"held out: 2 of 6 images, drawn by a hash of their names (--val-fraction {share})" in said
    assert "says little" not in said and "the same command" not in said


@pytest.mark.parametrize(
    ("held", "fraction", "said"),
    [
        (11, 0.1, "; that is 16%: hashes of few names fall unevenly\n"),
        (16, 0.1, "; that is 23%: hashes of few names fall unevenly, and training lacks them; the same command with "),
        (7, 0.1, "as there is no split 'val'\n"),
        (6, 0.15, "; that is 9%: hashes of few names fall unevenly\n"),
        (4, 0.1, "; that is 6%: hashes of few names fall unevenly; on so few AP says little; the same command with "),
    ],
)
def test_another_share_is_named_where_it_matters(monkeypatch, capsys, held, fraction, said):
    """Of 70 pictures."""
    names = [f"IMG_{k}.jpg" for k in range(70)]
    part = type("Part", (), {"__len__": lambda self: len(self.ids), "classes_in": lambda self, index: {1}})
    dataset, held_out = part(), part()
    dataset.ids, held_out.ids = names[held:], names[:held]
    monkeypatch.setattr(splits, "draws", lambda *args: True)
    splits._say_what_is_held_out(Options(val_fraction=fraction), dataset, held_out, True)
    assert said in capsys.readouterr().out


def test_a_run_goes_on_from_any_folder(shapes, tmp_path, monkeypatch, capsys):
    """Paths are kept whole; what has moved is named."""
    root, out = copy_shapes(shapes, tmp_path / "shapes"), tmp_path / "b"
    (tmp_path / "ids.txt").write_text("train_000004\ntrain_000001\n")
    monkeypatch.chdir(tmp_path)
    assert train("shapes", out, "--ids", "ids.txt") == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = ["train", "--out", str(out), "--resume", "--quiet", "--no-pictures"]
    assert main(again) == 0 and main(["eval", "--run", str(out), "--quiet"]) == 0
    root.rename(tmp_path / "moved")
    assert main(again) == 2
    assert f"error: {root}: does not exist; {out / 'options.json'} says that" in capsys.readouterr().err
    assert main([*again, "--root", "../moved"]) == 0
    assert json.loads((out / "options.json").read_text())["root"] == str(tmp_path / "elsewhere" / ".." / "moved")


def test_the_shapes_need_no_folder(shapes, tmp_path, monkeypatch, capsys):
    """As in `make train`: they lie in datasets/shapes, and are evaluated on their own split val."""
    (tmp_path / "datasets").mkdir()
    copy_shapes(shapes, tmp_path / "datasets" / "shapes")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--data", "shapes", "--steps", "1", *SMALL, "--out", "run"]) == 0
    assert "held out: the split 'val', " in capsys.readouterr().out
    assert main(["eval", "--run", "run", "--quiet"]) == 0
    for command in (["show", "--out", "shown"], ["anchors", "--out", "fit"], ["check"]):
        assert main(["data", *command, "--data", "shapes"]) == 0


def test_resuming_before_the_first_checkpoint_starts_at_the_beginning(trained, shapes, tmp_path, capsys):
    assert train(shapes, tmp_path / "b", "--resume") == 0
    assert "no checkpoint" in capsys.readouterr().err
    assert bits(tmp_path / "b") == bits(trained)


def test_an_existing_run_is_not_touched_unless_asked(trained, shapes, tmp_path, capsys):
    before = bits(trained)
    assert train(shapes, trained) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert train(shapes, trained, "--resume", "--config", "momentum=0.5") == 2
    assert "momentum: 0.9 there, 0.5 here" in capsys.readouterr().err
    assert train(shapes, trained, "--resume", "--seed", "1") == 2
    assert bits(trained) == before
    out = tmp_path / "b"
    assert train(shapes, out, "--seed", "1") == 0
    assert train(shapes, out, "--overwrite") == 0
    assert bits(out) == before


def test_a_bad_image_stops_training_or_is_skipped_and_counted(shapes, tmp_path, capsys):
    root = copy_shapes(shapes, tmp_path / "shapes")
    picture = root / "VOC2012" / "JPEGImages" / "train_000002.jpg"
    picture.write_bytes(picture.read_bytes()[:300])
    assert train(root, tmp_path / "b") == 2
    message = capsys.readouterr().err
    assert "train_000002" in message
    assert "--skip-bad" in message
    assert train(root, tmp_path / "b", "--overwrite", "--skip-bad") == 0
    assert list(json.loads((tmp_path / "b" / "summary.json").read_text())["skipped"]) == ["train_000002"]
    assert "images skipped because they cannot be read: 1" in (tmp_path / "b" / "summary.md").read_text()


def test_subset_and_ids(shapes, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("train_000004\ntrain_000001\n")
    for name, options, images in (("a", ["--subset", "3"], 3), ("b", ["--ids", str(ids)], 2)):
        assert train(shapes, tmp_path / name, "--steps", "1", *options) == 0
        assert json.loads((tmp_path / name / "summary.json").read_text())["images"] == images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "lerning_rate=1"], "unknown config field 'lerning_rate'"),
        (["--config", "learning_rate=fast"], "learning_rate is 'fast'"),
        (["--config", "nowhere.json"], "cannot read nowhere.json"),
        (["--config", "num_classes=7"], "num_classes is 7; the data set has 4 classes"),
        (["--config", 'frozen=["bakbone.*"]'], "frozen pattern 'bakbone.*' matches no parameter"),
        (["--size", "65"], "--size is 65; expected a multiple of 32, the stride of C5, such as 64 or 96"),
        (["--size", "250"], "such as 224 or 256"),
        (["--size", "20"], "such as 32"),
        (["--split", "tset"], "tset"),
        (["--ids", "nowhere.txt"], "cannot read the image ids in nowhere.txt"),
        (["--eval-splits", "test"], "--eval-splits names 'test'"),
        (["--data", "voc", "--root", "nowhere"], "nowhere"),
    ],
)
def test_bad_options_leave_nothing_behind(shapes, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--root", shapes, "--out", "run", *SMALL, *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_an_empty_split(shapes, tmp_path, capsys):
    root = copy_shapes(shapes, tmp_path / "shapes")
    (root / "VOC2012" / "ImageSets" / "Segmentation" / "train.txt").write_text("\n")
    assert train(root, tmp_path / "b") == 2
    assert "empty" in capsys.readouterr().err


def test_unwritable_output_is_found_before_training(shapes, tmp_path, monkeypatch, capsys):
    import mrcnn_np.training.loop as module

    monkeypatch.setattr(module, "train_step", lambda *a, **k: pytest.fail("training began"))
    (tmp_path / "file").write_text("x")
    assert train(shapes, tmp_path / "file" / "run") == 2
    assert "cannot write into" in capsys.readouterr().err
