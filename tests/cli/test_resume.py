"""What a run remembers: all that changes its bits. A different wish is refused with both values."""

import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import fields

import pytest
from small_run import bits, copy_shapes, train

import kernels
import mrcnn_np.training.loop
from mrcnn_np.cli.arguments import build_parser
from mrcnn_np.cli.main import main
from mrcnn_np.cli.options import SCHEMA, Options

#: another wish for every option of train that changes the bits, and both values as the message has them
CHANGES = {
    "seed": (["--seed", "1"], ["seed: 0 there, 1 here"]),
    "preset": (["--preset", "small"], ["preset: tiny there, small here"]),
    "config": (["--config", "momentum=0.5"], ["momentum: 0.9 there, 0.5 here"]),
    "batch_size": (["--batch-size", "1"], ["batch_size: 2 there, 1 here"]),
    "size": (["--size", "96"], ["image_max_size: 64 there, 96 here"]),
    "freeze": (["--freeze", "stem"], ["frozen: () there, ('backbone.stem.*',) here"]),
    "subset": (["--subset", "3"], ["images: 6 images, ", "there, 3 images, "]),
    "split": (["--split", "val"], ["images: 6 images, ", "there, 2 images, "]),
    "ids": (["--ids", "IDS"], ["images: 6 images, ", "there, 2 images, "]),
    "data": (["--data", "voc", "--split", "val"], ["circle, square, triangle there, background, aeroplane"]),
    "weights": (["--weights", "CHECKPOINT"], ["--weights is ", "was started without it"]),
    "class_names": (["--class-names", "a,b,c"], ["--class-names names the classes of --weights"]),
    "backend": (["--backend", "numpy"], ["--backend is numpy, but the run in ", " was started with cpu"]),
    "threads": (["--threads", "1"], ["--threads is 1, but the run in ", " was started with 2"]),
    "minutes": (["--minutes", "1"], ["--minutes 1 plans a run at its start, and this one was started with a number"]),
    "steps": (["--steps", "3"], ["is at step 4 already; --steps 3 is too few"]),
}
#: options that change no bit of the training, and why
FREE = {
    "out": "the folder", "root": "the images may have moved; their ids are compared", "resume": "itself",
    "overwrite": "starts anew", "skip_bad": "a bad image stops a run, which goes on with this as if it had been given",
    "checkpoint_every": "when, not what", "val_split": "evaluation", "val_subset": "evaluation",
    "val_fraction": "there is a split here; where there is none, the images that are left are compared",
    "eval_every": "evaluation", "tensorboard": "what is shown",
    "eval_splits": "evaluation", "no_eval": "evaluation", "no_pictures": "pictures",
    "quiet": "the screen", "debug": "the screen", "help": "the screen",
}  # fmt: skip
AGAIN = ["--resume", "--quiet", "--no-eval", "--no-pictures"]


@pytest.fixture(scope="module")
def run(shapes, tmp_path_factory):
    """A finished run on the compiled kernels, whatever the tests run on; tests only read it."""
    out = tmp_path_factory.mktemp("runs") / "a"
    assert train(shapes, out, "--backend", "cpu") == 0
    return out


def options_of(folder):
    return json.loads((folder / "options.json").read_text())


def test_every_option_is_looked_at():
    command = next(a for a in build_parser()._actions if a.dest == "command").choices["train"]
    assert {a.dest for a in command._actions} == CHANGES.keys() | FREE.keys()
    recorded = {f.name for f in fields(Options)}
    assert CHANGES.keys() <= recorded  # all that changes bits is written down
    assert {name.removesuffix("?") for name in SCHEMA} == recorded


@pytest.mark.parametrize("name", CHANGES)
def test_another_wish_is_refused_with_both_values(run, tmp_path, capsys, monkeypatch, name):
    arguments, messages = CHANGES[name]
    if name == "data" and "VOC_ROOT" not in os.environ:
        pytest.skip("VOC_ROOT is not set")
    if name == "threads" and options_of(run)["threads"] != 2:
        pytest.skip("not two threads")
    (tmp_path / "ids").write_text("train_000004\ntrain_000001\n")
    places = {"IDS": str(tmp_path / "ids"), "CHECKPOINT": str(run / "checkpoint.safetensors")}
    before = bits(run), options_of(run)
    monkeypatch.delenv("MRCNN_NP_BACKEND", raising=False)
    more = ["--root", os.environ["VOC_ROOT"]] if name == "data" else []
    assert main(["train", "--out", str(run), *AGAIN, *(places.get(a, a) for a in arguments), *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and all(message in error for message in messages), error
    assert (bits(run), options_of(run)) == before


@contextmanager
def interrupted_in_the_fourth_step(monkeypatch):
    """Let Ctrl-C come there."""
    real = mrcnn_np.training.loop.train_step

    def interrupted(*args, step, **kwargs):
        if step == 3:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("mrcnn_np.training.loop.train_step", interrupted)
        yield


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_the_backend_is_remembered(shapes, tmp_path, monkeypatch, backend):
    """Also against the default; without a word of it, the bits are those of an uninterrupted run."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(shapes, whole, "--backend", backend) == 0
    with interrupted_in_the_fourth_step(monkeypatch):
        assert train(shapes, parts, "--backend", backend) == 130
    other = {"numpy": "cpu", "cpu": "numpy"}[backend]
    with kernels.use(other):
        assert main(["train", "--out", str(parts), *AGAIN]) == 0
        assert kernels.backend() == other
    assert bits(whole) == bits(parts)
    assert options_of(parts)["backend"] == backend and options_of(parts)["threads"] >= 1


def test_a_wish_of_the_environment_is_a_wish(run, capsys, monkeypatch):
    monkeypatch.setenv("MRCNN_NP_BACKEND", "numpy")
    with kernels.use("numpy"):
        assert main(["train", "--out", str(run), *AGAIN]) == 2
    assert "MRCNN_NP_BACKEND is numpy, but the run in " in capsys.readouterr().err


def test_threads_are_remembered(shapes, tmp_path, monkeypatch, capsys):
    import numba

    from kernels.cpu.machine import threads

    monkeypatch.setattr(threads, "_start", None)  # a neighbour would change the number, too
    before = threads.shares()  # a neighbour may have changed it already
    assert train(shapes, tmp_path / "a", "--backend", "cpu", "--threads", "1") == 0
    assert numba.get_num_threads() == before
    assert options_of(tmp_path / "a")["threads"] == 1
    seen = []
    real = numba.set_num_threads
    monkeypatch.setattr(numba, "set_num_threads", lambda n: (seen.append(n), real(n)))
    assert main(["train", "--out", str(tmp_path / "a"), *AGAIN, "--steps", "5"]) == 0
    assert seen == [1, before]
    assert options_of(tmp_path / "a")["threads"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threads": 4096}, "was started with 4096 threads, now there are "),
        ({"vector": 32}, "was started with vectors of 32 numbers, now they have "),
        ({"backend": "numpy", "threads": 4096}, "was started with 4096 threads of BLAS, now there are "),
    ],
)
def test_a_machine_that_cannot_give_the_same_bits(run, tmp_path, capsys, changes, message):
    copy = shutil.copytree(run, tmp_path / "a")
    (copy / "options.json").write_text(json.dumps({**options_of(run), **changes}))
    assert main(["train", "--out", str(copy), *AGAIN]) == 2
    error = capsys.readouterr().err
    assert message in error and "start anew with --overwrite" in error


def test_runs_from_before_all_was_remembered_go_on(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "a")
    old = {k: v for k, v in options_of(run).items() if k not in ("backend", "threads", "vector")}
    (copy / "options.json").write_text(json.dumps(old))
    assert main(["train", "--out", str(copy), *AGAIN, "--backend", "cpu"]) == 0
    assert options_of(copy) == options_of(run)


def test_what_is_given_again_changes_nothing(run, shapes, tmp_path):
    """All of it, some of it, in any order."""
    copy = shutil.copytree(run, tmp_path / "a")
    assert train(shapes, copy, "--resume") == 0
    assert main(["train", "--out", str(copy), *AGAIN, "--config", "warmup_steps=2"]) == 0
    assert sorted(options_of(copy)["config"]) == sorted(options_of(run)["config"])
    assert bits(copy) == bits(run)


@pytest.mark.parametrize("name", ["--skip-bad", "--checkpoint-every", "--val-subset", "--root"])
def test_what_changes_no_bits_may_change(run, shapes, tmp_path, name):
    copy, moved = shutil.copytree(run, tmp_path / "a"), tmp_path / "moved"
    copy_shapes(shapes, moved)
    value = {"--skip-bad": [], "--root": [str(moved)]}.get(name, ["1"])
    assert main(["train", "--out", str(copy), *AGAIN, name, *value]) == 0
    assert bits(copy) == bits(run)


def test_what_is_not_wanted_at_the_end_is_remembered(tmp_path, monkeypatch, capsys):
    """Of images without a split 'val': nothing is held out, and a resumed run asks for nothing."""
    images, out = tmp_path / "images", tmp_path / "run"
    assert main(["data", "shapes", "--root", str(images), "--train", "6", "--val", "1", "--size", "64"]) == 0
    for path in images.rglob("val.txt"):
        path.unlink()
    with interrupted_in_the_fourth_step(monkeypatch):
        assert train(images, out) == 130
    assert main(["train", "--out", str(out), "--resume", "--quiet"]) == 0, capsys.readouterr().err
    report = capsys.readouterr().out
    assert "evaluated on" not in report and "picture: " not in report
    assert (options_of(out)["no_eval"], options_of(out)["no_pictures"]) == (True, True)
    # and it can be asked for
    assert main(["train", "--out", str(out), "--resume", "--quiet", "--eval-splits", "train", "--pictures"]) == 0
    assert "picture: " in capsys.readouterr().out
    assert (options_of(out)["no_eval"], options_of(out)["no_pictures"]) == (False, False)
    assert main(["train", "--out", str(out), "--resume", "--quiet"]) == 0
    assert options_of(out)["eval_splits"] == "train" and "picture: " in capsys.readouterr().out


def test_options_that_older_runs_did_not_write_are_the_defaults(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "a")
    old = {k: v for k, v in options_of(run).items() if k not in ("eval_splits", "no_eval", "no_pictures")}
    (copy / "options.json").write_text(json.dumps(old))
    assert main(["train", "--out", str(copy), "--resume", "--quiet"]) == 0
    said = options_of(copy)
    assert (said["eval_splits"], said["no_eval"], said["no_pictures"]) == ("val", False, False)
    assert (copy / "pictures").exists()


# --- options.json


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("checkpoint_every", 0, "['checkpoint_every'] is 0; expected a whole number from 1 on"),
        ("checkpoint_every", "50", "['checkpoint_every'] is '50'; expected a whole number from 1 on"),
        ("checkpoint_every", True, "['checkpoint_every'] is True"),
        ("steps", -1, "['steps'] is -1; expected a whole number from 0 on or null"),
        ("steps", 2.5, "['steps'] is 2.5"),
        ("minutes", "1", "['minutes'] is '1'"),
        ("seed", None, "['seed'] is None; expected a whole number from 0 on"),
        ("data", "mnist", "['data'] is 'mnist'; expected 'shapes' or 'voc' or 'coco'"),
        ("preset", "huge", "['preset'] is 'huge'"),
        ("config", ["a=1", 5], "['config'][1] is 5; expected a text"),
        ("config", {"a": 1}, "['config'] is a dict of 1; expected a list"),
        ("skip_bad", "no", "['skip_bad'] is 'no'; expected true or false"),
        ("backend", "gpu", "['backend'] is 'gpu'; expected 'numpy' or 'cpu' or 'cuda' or null"),
        ("threads", 0, "['threads'] is 0"),
        ("eval_splits", 1, "['eval_splits'] is 1; expected a text"),
        ("no_eval", None, "['no_eval'] is None; expected true or false"),
        ("root", [], "['root'] is a list of 0; expected a text or null"),
        ("subset", "5", "['subset'] is '5'"),
    ],
)
@pytest.mark.parametrize("command", ["train", "eval"])
def test_options_of_another_kind_are_named(run, tmp_path, capsys, key, value, message, command):
    copy = shutil.copytree(run, tmp_path / "a")
    (copy / "options.json").write_text(json.dumps({**options_of(run), key: value}))
    arguments = ["train", "--out", str(copy), *AGAIN] if command == "train" else ["eval", "--run", str(copy)]
    assert main(arguments) == 2
    assert f"error: {copy / 'options.json'}{message}" in capsys.readouterr().err


@pytest.mark.parametrize("text", ['{"seed": 1e999}', '{"seed": NaN}', "[" * 10**5, "\0", '{"config": ' + "[" * 99])
def test_options_that_are_no_json(run, tmp_path, capsys, text):
    copy = shutil.copytree(run, tmp_path / "a")
    (copy / "options.json").write_text(text)
    assert main(["train", "--out", str(copy), *AGAIN]) == 2
    assert f"error: {copy / 'options.json'} " in capsys.readouterr().err


def test_options_that_are_no_file(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "a")
    (copy / "options.json").unlink()
    for target in ("/dev/zero", "nowhere"):
        (copy / "options.json").symlink_to(target)
        assert main(["train", "--out", str(copy), *AGAIN]) == 2
        assert f"error: cannot read {copy / 'options.json'}: " in capsys.readouterr().err
        (copy / "options.json").unlink()


def test_links_planted_in_a_run_are_not_followed(shapes, tmp_path):
    run, victim = tmp_path / "a", tmp_path / "victim"
    assert train(shapes, run, "--backend", "cpu") == 0
    victim.write_text("mine")
    written = [path.name for path in run.iterdir() if path.is_file()]
    for name in ["writable", *written]:
        (run / f".{name}.tmp").symlink_to(victim)
    assert main(["train", "--out", str(run), *AGAIN, "--steps", "5"]) in (0, 2)
    assert victim.read_text() == "mine"
    assert {path.name for path in run.iterdir() if path.is_symlink()} <= {
        f".{name}.tmp" for name in ["writable", *written]
    }
