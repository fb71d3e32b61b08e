"""The command line, end to end with the real network: a few steps on a few generated images."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from mrcnn_np.cli.main import main
from mrcnn_np.cli.options import read_ids
from mrcnn_np.training.checkpoint import load_checkpoint, save_checkpoint
from mrcnn_np.training.run_folder import read_steps

SMALL = [
    "--size", "64", "--batch-size", "2", "--steps", "4", "--checkpoint-every", "2", "--quiet", "--config",
    "warmup_steps=2", "--config", "detection_score_threshold=0.0", "--config", "detections_per_image=5",
]  # fmt: skip
WRITTEN = ["checkpoint.safetensors", "config.json", "metrics.jsonl", "options.json", "summary.json", "summary.md"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    assert main(["data", "shapes", "--root", str(root), "--train", "6", "--val", "2", "--size", "64"]) == 0
    return str(root)


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory):
    """A finished run; tests only read it."""
    out = tmp_path_factory.mktemp("runs") / "a"
    assert main(["train", "--root", shapes, "--out", str(out), "--eval-splits", "train,val", *SMALL]) == 0
    return out


def train(shapes, out, *more):
    return main(["train", "--root", str(shapes), "--out", str(out), "--no-eval", "--no-pictures", *SMALL, *more])


def bits(folder):
    return {name: (folder / name).read_bytes() for name in ("checkpoint.safetensors", "metrics.jsonl", "config.json")}


def copy_shapes(shapes, to):
    shutil.copytree(shapes, to)
    return to


# --- train


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
    assert main(command) == 2
    message = capsys.readouterr().err
    assert "there are no held-out images: " in message and "--val-split" in message and "--eval-splits train" in message
    assert main([*command, "--eval-splits", "train", "--steps", "1"]) == 0


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


def test_ids_may_contain_spaces_and_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_bytes(b"\xef\xbb\xbfone image\r\n\n  two \n")
    assert read_ids(str(path)) == ["one image", "two"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "holds list; expected a JSON object"),
        ('{"root": 5}', "has root 5; expected str | None"),
        ('{"config": 3}', "has config 3; expected list"),
        ("{", "is not JSON"),
    ],
)
def test_damaged_options_are_named(trained, tmp_path, capsys, text, message):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "options.json").write_text(text)
    for command in (["train", "--out", str(run), "--resume"], ["eval", "--run", str(run)]):
        assert main(command) == 2
        assert f"error: {run / 'options.json'} {message}" in capsys.readouterr().err


def test_too_little_memory_is_a_message(monkeypatch, tmp_path, capsys):
    def fail(*args, **options):
        raise MemoryError("Unable to allocate 8 TiB")

    monkeypatch.setattr("mrcnn_np.cli.detect.load_checkpoint", fail)
    assert main(["detect", "--run", str(tmp_path), "x.png"]) == 2
    assert capsys.readouterr().err.startswith("error: not enough memory (Unable to allocate 8 TiB)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "lerning_rate=1"], "unknown config field 'lerning_rate'"),
        (["--config", "learning_rate=fast"], "learning_rate is 'fast'"),
        (["--config", "nowhere.json"], "cannot read nowhere.json"),
        (["--config", "num_classes=7"], "num_classes is 7; the data set has 4 classes"),
        (["--config", 'frozen=["bakbone.*"]'], "frozen pattern 'bakbone.*' matches no parameter"),
        (["--size", "65"], "multiple of 32"),
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


# --- detect


def test_detect_writes_pictures_numbers_and_masks(trained, shapes, tmp_path, capsys):
    source = os.path.join(shapes, "VOC2012", "JPEGImages", "val_000000.jpg")
    narrow, broken = tmp_path / "narrow.png", tmp_path / "broken.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 11), np.uint8)).save(narrow)
    broken.write_bytes(b"no image")
    out = tmp_path / "found"
    images = [source, str(broken), str(narrow)]
    assert main(["detect", "--run", str(trained), *images, "--out", str(out), "--score", "0", "--quiet"]) == 2
    assert "broken.jpg" in capsys.readouterr().err
    assert {p.name for p in out.iterdir()} == {
        f"{name}_{kind}" for name in ("val_000000", "narrow")
        for kind in ("detections.png", "detections.json", "instances.png")
    }  # fmt: skip
    for name, shape in (("val_000000", (64, 64)), ("narrow", (40, 11))):
        record = json.loads((out / f"{name}_detections.json").read_text())
        instances = np.array(Image.open(out / f"{name}_instances.png"))
        assert (record["height"], record["width"]) == instances.shape == shape
        numbers = [d["n"] for d in record["detections"]]
        assert numbers == list(range(1, len(numbers) + 1))
        assert set(np.unique(instances)) <= {0, *numbers}
        scores = [d["score"] for d in record["detections"]]
        assert scores == sorted(scores, reverse=True)
        for d in record["detections"]:
            y1, x1, y2, x2 = d["box"]
            assert 0 <= y1 <= y2 <= shape[0]
            assert 0 <= x1 <= x2 <= shape[1]
            assert d["class"] in ("circle", "square", "triangle")
    if record["detections"]:  # the first is on top
        assert (instances == 1).sum() == record["detections"][0]["pixels"]


def test_detect_keeps_images_of_one_name_apart(trained, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / folder / "x.png")
    images = [str(tmp_path / folder / "x.png") for folder in ("a", "b")]
    assert main(["detect", "--run", str(trained), *images, "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert {p.name for p in (tmp_path / "out").glob("*.json")} == {"x_detections.json", "x-2_detections.json"}


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_detect_takes_a_file_name_that_is_no_text(trained, tmp_path):
    name = os.fsdecode(b"\xff.png")
    Image.new("RGB", (40, 40)).save(tmp_path / name)
    command = [sys.executable, "-m", "mrcnn_np", "detect", "--run", str(trained), str(tmp_path / name), "--quiet"]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    record = json.loads((tmp_path / "out" / os.fsdecode(b"\xff_detections.json")).read_text())
    assert record["image"] == str(tmp_path / name)


def test_detect_never_overwrites_an_image_it_was_given(trained, tmp_path, capsys):
    images = [tmp_path / "x.png", tmp_path / "x_instances.png"]
    for path in images:
        Image.new("RGB", (40, 40)).save(path)
    before = [path.read_bytes() for path in images]
    assert main(["detect", "--run", str(trained), *map(str, images), "--out", str(tmp_path), "--quiet"]) == 2
    assert f"{images[1]} would be overwritten" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == images
    assert [path.read_bytes() for path in images] == before


def test_bad_checkpoints(trained, tmp_path, capsys):
    path = tmp_path / "c.safetensors"
    whole = (trained / "checkpoint.safetensors").read_bytes()
    checkpoint = load_checkpoint(trained / "checkpoint.safetensors")

    def cut():
        path.write_bytes(whole[:-5])

    def other_config():
        save_checkpoint(
            path, checkpoint.__class__(**{**vars(checkpoint), "config": checkpoint.config.replace(fpn_channels=32)})
        )

    def not_a_number():
        name = "rpn.conv.w" if "rpn.conv.w" in checkpoint.params else list(checkpoint.params)[5]
        checkpoint.params[name].flat[0] = np.nan
        save_checkpoint(path, checkpoint)

    for make, message in (
        (lambda: None, "no checkpoint"),
        (cut, "cut short or damaged"),
        (other_config, "do not fit the configuration"),
        (not_a_number, "holds NaN or infinity"),
    ):
        make()
        assert main(["detect", "--checkpoint", str(path), "x.png", "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "c.safetensors" in error


# --- eval, data


@pytest.mark.parametrize("method", ["voc07", "coco"])
def test_eval_prints_and_writes(trained, tmp_path, capsys, method):
    out = tmp_path / "e.json"
    assert main(["eval", "--run", str(trained), "--method", method, "--out", str(out), "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "box" in text
    assert "mask" in text
    record = json.loads(out.read_text())
    assert (record["split"], record["step"], record["mask"]["method"]) == ("val", 4, method)


def test_eval_agrees_with_the_summary(trained, tmp_path):
    out = tmp_path / "e.json"
    command = ["eval", "--run", str(trained), "--split", "train", "--iou-type", "mask", "--out", str(out), "--quiet"]
    assert main(command) == 0
    summary = json.loads((trained / "summary.json").read_text())
    assert json.loads(out.read_text())["mask"] == summary["evaluation"]["train"]["mask"]


def test_eval_complains_before_it_generates_or_measures(trained, tmp_path, monkeypatch, capsys):
    """A run that is not there, and places that cannot be written."""
    monkeypatch.setattr("mrcnn_np.cli.eval.evaluate_split", lambda *a, **k: pytest.fail("it was measured"))
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "--run", "missing"]) == 2
    assert "missing" in capsys.readouterr().err and not list(tmp_path.iterdir())
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for option in ("--out", "--coco-results"):
        assert main(["eval", "--run", str(trained), option, "folder"]) == 2
        assert "cannot write folder: it is a folder; expected the name of a file" in capsys.readouterr().err
        assert main(["eval", "--run", str(trained), option, "file/e.json"]) == 2
        assert "cannot write into file: " in capsys.readouterr().err
    assert main(["detect", "--run", str(trained), "x.png", "--coco-results", "folder"]) == 2
    assert "cannot write folder: it is a folder" in capsys.readouterr().err


def test_eval_on_data_of_other_classes(trained, tmp_path, monkeypatch, capsys):
    if "VOC_ROOT" not in os.environ:
        pytest.skip("VOC_ROOT is not set")
    assert main(["eval", "--run", str(trained), "--data", "voc"]) == 2
    assert "was trained on the classes background, circle" in capsys.readouterr().err


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


# --- the rest


@pytest.mark.parametrize(
    "command", [[], ["train"], ["detect"], ["eval"], ["data"], ["data", "shapes"], ["data", "voc"], ["data", "check"]]
)
def test_help(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "usage: mrcnn-np" in text
    if command and command != ["data"]:
        assert "example" in text


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["trian"],
        ["train", "--preset", "huge"],
        ["train", "--steps", "-1"],
        ["train", "--seed", "x"],
        ["train", "--step", "3"],
        ["detect", "x.png"],
        ["detect", "--run", "a", "--checkpoint", "b", "x.png"],
        ["detect", "--run", "a", "x.png", "--score", "2"],
    ],
)
def test_usage_errors(command):
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 2


def test_debug_shows_the_traceback(tmp_path):
    from mrcnn_np.errors import CheckpointError

    with pytest.raises(CheckpointError):
        main(["detect", "--run", str(tmp_path), "x.png", "--debug"])


def test_threads_that_are_not_there_are_refused(tmp_path, capsys):
    assert main(["train", "--threads", "4096", "--backend", "cpu", "--out", str(tmp_path / "run")]) == 2
    assert "--threads 4096: there are " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
