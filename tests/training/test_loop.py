"""The training loop: order, skipping, finite checks, and the same bits after any interruption."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import linear_model
import numpy as np
import pytest
from linear_model import CONFIG, Images, LinearModel
from safetensors import safe_open
from scenes import sample_of

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.errors import CheckpointError, ConfigError, DataError, NonFiniteError, UserError
from mrcnn_np.molding import make_batch
from mrcnn_np.training.bar import Bar
from mrcnn_np.training.checkpoint import KEY, load_checkpoint
from mrcnn_np.training.loop import (
    INITIALISE,
    ORDER,
    STEP,
    batch_indices,
    epoch_order,
    load_samples,
    require_convergence,
    stream,
    train,
    train_step,
)
from mrcnn_np.training.optim import zero_velocity
from mrcnn_np.training.run_folder import BEST, CHECKPOINT, METRICS, TIMINGS, StepLog, read_steps


def run(folder, *, model=None, dataset=None, resume=False, **options):
    folder.mkdir(exist_ok=True)
    checkpoint = load_checkpoint(folder / CHECKPOINT) if resume and (folder / CHECKPOINT).exists() else None
    options = {"checkpoint_every": 2, "progress": False} | options
    return train(
        model or LinearModel(), Images() if dataset is None else dataset, out_dir=folder, resume=checkpoint, **options
    )


def files(folder):
    return {name: (folder / name).read_bytes() for name in (CHECKPOINT, METRICS, BEST) if (folder / name).exists()}


# --- order and random numbers


def test_every_image_once_per_epoch_also_across_batches():
    seen = [i for step in range(14) for i in batch_indices(5, step, 3, 7)]  # 42 images: 6 epochs
    for epoch in range(6):
        assert sorted(seen[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert len({tuple(seen[7 * e : 7 * e + 7]) for e in range(6)}) > 1


def test_a_batch_larger_than_the_data_set():
    assert sorted(batch_indices(0, 0, 5, 2)[:2]) == [0, 1]
    assert batch_indices(0, 3, 4, 1) == [0] * 4


def test_order_depends_on_seed_and_epoch_only():
    assert epoch_order(0, 3, 9) == epoch_order(0, 3, 9)
    assert len({epoch_order(s, e, 9) for s in range(4) for e in range(4)}) == 16


def test_streams_are_all_different():
    draws = {
        tuple(stream(seed, index, purpose).integers(0, 2**62, 2))
        for seed in range(3)
        for index in range(5)
        for purpose in (INITIALISE, STEP, ORDER)
    }
    assert len(draws) == 45


# --- a whole run


def test_metrics_hold_what_happened_and_nothing_of_the_machine(tmp_path):
    result = run(tmp_path)
    rows = read_steps(tmp_path / METRICS)
    assert [r["step"] for r in rows] == list(range(1, 13))
    assert list(rows[0]) == [
        "step", "loss", "rpn_class", "rpn_box", "head_class", "head_box", "head_mask", "grad_norm", "learning_rate",
        "rpn_positives", "roi_positives",
    ]  # fmt: skip
    assert rows[0]["loss"] == pytest.approx(5 * rows[0]["rpn_box"])
    assert np.mean([r["loss"] for r in rows[-3:]]) < np.mean([r["loss"] for r in rows[:3]])
    assert [r["step"] for r in read_steps(tmp_path / TIMINGS)] == list(range(1, 13))
    assert result.step == 12
    assert result.skipped == {}


def test_two_runs_with_one_seed_write_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tmp_path / name, seed=seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a")[METRICS] != files(tmp_path / "c")[METRICS]


def test_no_steps_still_leave_a_checkpoint(tmp_path):
    run(tmp_path, model=LinearModel(CONFIG.replace(steps=0)))
    assert load_checkpoint(tmp_path / CHECKPOINT).step == 0
    assert read_steps(tmp_path / METRICS) == []


def test_frozen_parameters_stay_and_have_no_velocity(tmp_path):
    model = LinearModel(CONFIG.replace(frozen=("backbone.*",)))
    before = model.params["backbone.w"].copy()
    run(tmp_path, model=model)
    assert (model.params["backbone.w"] == before).all()
    assert list(load_checkpoint(tmp_path / CHECKPOINT).velocity) == ["head.b"]
    with pytest.raises(ConfigError, match="bakbone"):
        run(tmp_path / "x", model=LinearModel(CONFIG.replace(frozen=("bakbone.*",))))


def test_positives_explain_a_mask_loss_of_zero(capsys):
    """Objects in one image, none in the other: both counts, and what they mean for the losses."""
    config = presets.tiny(num_classes=2, image_min_size=64, image_max_size=64, gt_joins_proposals=True)
    for count in (2, 0):
        model = MaskRCNN(config, rng=np.random.default_rng(0))
        samples = [sample_of([(8, 8, 30, 30), (34, 30, 60, 58)][:count], shape=(64, 64))]
        batch, rng = make_batch(samples, config), np.random.default_rng(1)
        targets = model.losses(batch, np.random.default_rng(1))[1].targets
        velocity = zero_velocity(model.params, config)
        record = train_step(model, batch, velocity, step=0, rng=rng)
        assert record["rpn_positives"] == (targets.rpn_labels == 1).sum()
        assert record["roi_positives"] == (targets.class_ids > 0).sum()
        assert (record["roi_positives"] > 0) == (record["head_mask"] > 0) == (count > 0)
    bar = Bar(0, 1, enabled=True)
    bar.show(record, images_per_second=1.0)
    bar.close()
    assert "positive 0 anchors 0 RoIs" in capsys.readouterr().err


# --- interruptions


class Killed(BaseException):
    """Stands for SIGKILL: no handler in the program catches it."""


def kill_at(monkeypatch, moment):
    """Stop the program at the n-th moment at which something could be half done on disk."""
    left = [moment]

    def tick():
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    def around(function):
        def wrapped(*args):
            tick()
            result = function(*args)
            tick()
            return result

        return wrapped

    def half_a_line(log, record):
        left[0] -= 1
        if left[0] == 0:
            log._file.write(json.dumps(record)[:9].encode())
            log._file.flush()
            raise Killed
        whole_line(log, record)
        tick()

    whole_line = StepLog.write
    monkeypatch.setattr(os, "fsync", around(lambda descriptor: None))  # a simulated kill loses no cache, and it is slow
    monkeypatch.setattr(os, "replace", around(os.replace))
    monkeypatch.setattr(StepLog, "write", half_a_line)
    return left


class Measured:
    """Stands for ``HeldOut``: numbers that depend on the model, the best not the last."""

    every, report = 2, None

    def measure(self, model):
        distance = abs(float(model.params["head.b"]) - 0.3)
        return {"val_loss": distance, "val_mask_ap50": 1.0 / (1.0 + distance)}


@pytest.mark.parametrize("held_out", [None, Measured()], ids=["plain", "held out"])
def test_a_kill_at_any_moment_leaves_no_trace(tmp_path, monkeypatch, held_out):
    def seven_steps():
        augmented = {"flip_vertical": 0.5, "quarter_turns": 0.5, "crop": (0.5, 1.0), "colour_jitter": (0.2, 0.2, 0.2)}
        return LinearModel(CONFIG.replace(steps=7, decay="cosine", learning_rate=0.02, **augmented))

    run(tmp_path / "whole", model=seven_steps(), held_out=held_out)
    if held_out is not None:
        rows = read_steps(tmp_path / "whole" / METRICS)
        measured = {r["step"]: r["val_mask_ap50"] for r in rows if "val_loss" in r}
        assert list(measured) == [2, 4, 6, 7]
        assert load_checkpoint(tmp_path / "whole" / BEST).step == max(measured, key=measured.get)
    with monkeypatch.context() as patch:
        left = kill_at(patch, 10**6)
        run(tmp_path / "counted", model=seven_steps(), held_out=held_out)
        moments = 10**6 - left[0]
    assert moments > 60  # 7 steps with four moments each, 5 checkpoints with six each, and the logs before them
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for moment in range(1, moments + 1):
        folder = tmp_path / str(moment)
        with monkeypatch.context() as patch:
            kill_at(patch, moment)
            with pytest.raises(Killed):
                run(folder, model=seven_steps(), held_out=held_out)
        run(folder, model=seven_steps(), held_out=held_out, resume=True)
        assert files(folder) == files(tmp_path / "whole"), f"killed at moment {moment}"
        assert not list(folder.glob(".*.tmp"))


def test_kill_minus_nine(tmp_path):
    steps, whole, killed = 100, tmp_path / "whole", tmp_path / "killed"
    program = [sys.executable, str(Path(linear_model.__file__))]
    for folder in (whole, killed):
        folder.mkdir()
    subprocess.run([*program, str(whole), str(steps)], check=True, capture_output=True)
    choose, kills, metrics = random.Random(0), 0, killed / METRICS
    for target in (0, 7, 20, 45):  # kill shortly after so many steps
        with subprocess.Popen([*program, str(killed), str(steps)], stdout=subprocess.PIPE) as process:
            process.stdout.readline()  # "ready": the imports are done
            while process.poll() is None and target and not (metrics.exists() and len(read_steps(metrics)) >= target):
                time.sleep(0.0005)
            time.sleep(choose.uniform(0, 0.004))
            process.send_signal(signal.SIGKILL)
        assert process.returncode in (-signal.SIGKILL, 0)
        kills += process.returncode != 0
    assert kills >= 1
    subprocess.run([*program, str(killed), str(steps)], check=True, capture_output=True)
    assert files(killed) == files(whole)


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path):
    run(tmp_path)
    run(tmp_path, model=LinearModel(CONFIG.replace(steps=20)), resume=True)
    assert [r["step"] for r in read_steps(tmp_path / METRICS)] == list(range(1, 21))
    with pytest.raises(CheckpointError, match="at step 20 already"):
        run(tmp_path, model=LinearModel(CONFIG.replace(steps=12)), resume=True)


def test_resuming_another_run_is_refused_and_changes_nothing(tmp_path):
    run(tmp_path)
    before = files(tmp_path)
    for options, message in [
        ({"model": LinearModel(CONFIG.replace(momentum=0.5))}, r"momentum: 0\.9 there, 0\.5 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"dataset": Images(6)}, "other image ids"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            run(tmp_path, resume=True, **options)
        assert files(tmp_path) == before


def test_metrics_that_were_deleted_are_missed(tmp_path):
    run(tmp_path)
    (tmp_path / METRICS).unlink()
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl ends after step 0, but the checkpoint .* step 12"):
        run(tmp_path, resume=True)
    assert load_checkpoint(tmp_path / CHECKPOINT).step == 12


def test_a_full_disk_stops_with_the_old_checkpoint(tmp_path, monkeypatch):
    real, calls = os.replace, []

    def full(*args):
        calls.append(args)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(*args)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        run(tmp_path)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / CHECKPOINT).step == 2
    run(tmp_path, resume=True)
    run(tmp_path / "whole")
    assert files(tmp_path) == files(tmp_path / "whole")


# --- what can go wrong


@pytest.mark.parametrize(
    ("first", "loss", "refused"),
    [
        (3.0, 3e5, False),
        (3.0, 3.1e6, True),
        (0.01, 9e5, False),
        (0.01, 1.1e6, True),
        (1e24, 1e24, True),
        (5e3, 9e8, False),
    ],
)
def test_the_rule_of_divergence(first, loss, refused):
    record = {"loss": loss, "grad_norm": 1.0}
    if not refused:
        return require_convergence(record, first)
    with pytest.raises(NonFiniteError, match="training has diverged"):
        require_convergence(record, first)


def test_a_loss_that_is_finite_and_beyond_reason_is_no_success(tmp_path):
    """The learning rate makes every step worse; float32 holds it for a while."""
    model = LinearModel(CONFIG.replace(learning_rate=30.0, steps=60, warmup_steps=0, clip_norm=None))
    with pytest.raises(NonFiniteError, match=r"step \d+: the loss is .*e\+.*more than .* kept"):
        run(tmp_path, model=model)
    losses = [r["loss"] for r in read_steps(tmp_path / METRICS)]
    assert losses and max(losses) < 1e6 * max(losses[0], 1)
    # and a resumed run measures by the same first step
    with pytest.raises(NonFiniteError, match="diverged"):
        run(tmp_path, model=model, resume=True)


def test_gradients_whose_norm_is_infinite():
    with pytest.raises(NonFiniteError, match="norm of the gradients"):
        require_convergence({"loss": 1.0, "grad_norm": np.inf}, 1.0)


def test_the_last_update_is_looked_at(tmp_path):
    """No step follows whose check of the parameters would find it."""
    config = CONFIG.replace(steps=1, warmup_steps=0, clip_norm=None)
    object.__setattr__(config, "learning_rate", 1e38)  # a rate that no configuration takes
    model = LinearModel(config)
    with pytest.raises(NonFiniteError, match=r"step 1: after the update, parameter .* holds NaN or infinity"):
        run(tmp_path, model=model)
    with safe_open(tmp_path / CHECKPOINT, "np") as file:  # load_checkpoint would refuse that rate
        envelope = json.loads(file.metadata()[KEY])
    assert json.loads(envelope["header"])["step"] == 0


def break_batch(monkeypatch, model):
    import mrcnn_np.training.loop as module

    real = module.make_batch

    def broken(samples, config):
        batch = real(samples, config)
        batch.images[0, 3, 3, 1] = np.nan
        return batch

    monkeypatch.setattr(module, "make_batch", broken)
    return "the input image holds NaN"


def break_parameter(monkeypatch, model):
    model.params["head.b"][...] = np.inf
    return r"parameter head\.b holds NaN"


def break_loss(monkeypatch, model):
    real = model.losses

    def broken(batch, rng):
        losses, cache = real(batch, rng)
        return losses | {"head_box": float("nan"), "head_mask": float("inf")}, cache

    monkeypatch.setattr(model, "losses", broken)
    return "loss head_box holds NaN"


def break_gradient(monkeypatch, model):
    real = model.backward
    monkeypatch.setattr(model, "backward", lambda *a, **k: {n: g * np.nan for n, g in real(*a, **k).items()})
    return r"gradient of head\.b holds NaN"  # the backward pass reaches the head first


@pytest.mark.parametrize("spoil", [break_batch, break_parameter, break_loss, break_gradient])
def test_a_nan_is_named_and_nothing_is_updated(tmp_path, monkeypatch, spoil):
    model = LinearModel()
    run(tmp_path, model=LinearModel(CONFIG.replace(steps=3)))  # something to keep: steps 1 to 3
    before = files(tmp_path)
    real = model.losses
    steps = [0]

    def count(batch, rng):
        steps[0] += 1
        return real(batch, rng)

    monkeypatch.setattr(model, "losses", count)
    resume = load_checkpoint(tmp_path / CHECKPOINT)
    if spoil is break_parameter:
        resume.params["head.b"][...] = np.inf
    message = spoil(monkeypatch, model)
    with pytest.raises(
        NonFiniteError, match=rf"^step 4: {message} or infinity \(images image.*checkpoint of step 3 is"
    ):
        train(model, Images(), out_dir=tmp_path, resume=resume, progress=False)
    assert files(tmp_path) == before


def test_overflow_on_the_way_is_found_without_warnings(tmp_path, recwarn):
    config = CONFIG.replace(clip_norm=None, warmup_steps=0)
    object.__setattr__(config, "learning_rate", 1e30)  # a rate that no configuration takes
    model = LinearModel(config)
    with pytest.raises(NonFiniteError, match="step 2: loss rpn_class"):
        run(tmp_path, model=model)
    assert not recwarn.list


def test_a_bad_image_is_named(tmp_path):
    with pytest.raises(DataError, match=r"image image3: image3\.jpg: is cut short .*--skip-bad") as caught:
        run(tmp_path, dataset=Images(bad=[3]))
    assert caught.value.image_id == "image3"


def test_a_bad_image_is_replaced_by_the_next_and_tried_once(capsys):
    dataset, skipped = Images(5, bad=[2, 3]), {}
    samples = load_samples(dataset, [2, 0, 3, 2, 4], skipped)
    assert [s.image_id for s in samples] == ["image4", "image0", "image4", "image4", "image4"]
    assert list(skipped) == ["image2", "image3"]
    assert [dataset.loaded.count(i) for i in (2, 3)] == [1, 1]
    assert capsys.readouterr().err.count("skipped image") == 2


def test_the_last_image_is_followed_by_the_first():
    assert [s.image_id for s in load_samples(Images(3, bad=[2]), [2], {})] == ["image0"]


def test_only_bad_images():
    with pytest.raises(DataError, match=r"none of the 2 images can be read.*image1\.jpg: is cut short"):
        load_samples(Images(2, bad=[0, 1]), [0], {})


def test_skipping_resumes_to_the_same_bits(tmp_path, monkeypatch):
    options = {"dataset": Images(bad=[1, 4]), "skip_bad": True}
    result = run(tmp_path / "whole", **options)
    assert set(result.skipped) == {"image1", "image4"}
    with monkeypatch.context() as patch:
        kill_at(patch, 50)
        with pytest.raises(Killed):
            run(tmp_path / "killed", **options)
    result = run(tmp_path / "killed", resume=True, **options)
    assert set(result.skipped) == {"image1", "image4"}
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_no_images(tmp_path):
    with pytest.raises(DataError, match="no images"):
        run(tmp_path, dataset=Images(0))
