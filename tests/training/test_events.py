"""TensorBoard's files of a run: what stands in them, no step twice, and that training never needs them."""

import io
import sys

import numpy as np
import pytest
from linear_model import CONFIG, Images, LinearModel
from PIL import Image
from scenes import sample_of
from small_run import SMALL

from mrcnn_np.cli.main import main
from mrcnn_np.detections import Detections
from mrcnn_np.errors import UserError
from mrcnn_np.evaluate.split import SplitReport
from mrcnn_np.objective import LOSSES
from mrcnn_np.training.checkpoint import load_checkpoint
from mrcnn_np.training.events import TAGS, Events, read_events, require_package
from mrcnn_np.training.loop import train
from mrcnn_np.training.run_folder import CHECKPOINT, EVENTS, METRICS, OPTIONS, read_steps


@pytest.fixture
def written():
    """Skip where the package that writes the files is missing."""
    pytest.importorskip("tensorboardX", reason="tensorboardX, of the extra tensorboard, is not installed")


def events_of(folder):
    return [event for path in sorted((folder / EVENTS).iterdir()) for event in read_events(path)]


def scalars_of(folder):
    """The numbers as {step: {tag: value}}; a number that is there twice fails."""
    found = {}
    for event in events_of(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                assert value.tag not in found.setdefault(event.step, {}), (event.step, value.tag)
                found[event.step][value.tag] = value.simple_value
    return found


def pictures_of(folder):
    return [(e.step, v.tag, v.image) for e in events_of(folder) for v in e.summary.value if v.HasField("image")]


def as_scalars(rows):
    return {
        row["step"]: {TAGS[name]: pytest.approx(row[name], rel=1e-6) for name in TAGS if name in row} for row in rows
    }


def row(step, **more):
    return {"step": step, "loss": 5.0 / step, **dict.fromkeys(LOSSES, 1.0 / step), "learning_rate": 0.1} | more


def report(name="a"):
    sample = sample_of([(8, 8, 30, 30)], shape=(64, 48), name=name)
    found = Detections(sample.gt_boxes, np.ones(1, np.int64), np.array([0.75], np.float32), sample.gt_masks)
    return SplitReport({}, [sample], [found], {}, [])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / EVENTS).mkdir()
    return tmp_path


def test_numbers_and_pictures_by_step(written, folder):
    with Events(folder, ("background", "cat")) as events:
        events.begin([row(1)])
        events.add(row(2, val_loss=4.0, val_mask_ap50=0.25, rpn_positives=7), report("at/a"))
        assert len(scalars_of(folder)) == 2  # while it is open, too
    rows = [row(1), row(2, val_loss=4.0, val_mask_ap50=0.25, rpn_positives=7)]
    assert scalars_of(folder) == as_scalars(rows)
    ((step, tag, image),) = pictures_of(folder)
    assert (step, tag) == (2, "held-out/at/a")
    drawn = Image.open(io.BytesIO(image.encoded_image_string))
    assert drawn.size == (image.width, image.height) and np.asarray(drawn).std() > 0


def test_a_resumed_run_takes_over_what_its_checkpoint_has(written, folder):
    with Events(folder, ("background", "cat")) as events:
        events.begin([])
        for step in range(1, 6):
            events.add(row(step), report() if step % 2 == 0 else None)
    times = {e.step: e.wall_time for e in events_of(folder) if e.summary.value}
    (path,) = (folder / EVENTS).iterdir()
    path.write_bytes(path.read_bytes()[:-7])  # killed while it wrote
    with Events(folder, ("background", "cat")) as events:
        events.begin([row(1), row(2), row(3)])  # the checkpoint is of step 3
        events.add(row(4, loss=9.0))
    assert scalars_of(folder) == as_scalars([row(1), row(2), row(3), row(4, loss=9.0)])
    assert [step for step, _, _ in pictures_of(folder)] == [2]
    assert {e.step: e.wall_time for e in events_of(folder)}[3] == times[3]


def test_what_a_kill_kept_from_the_file_is_added(written, folder):
    (folder / EVENTS / "events.out.tfevents.1.damaged").write_bytes(b"\xff" * 40)
    with Events(folder, ()) as events:
        events.begin([row(1), row(2)])
    assert scalars_of(folder) == as_scalars([row(1), row(2)]) and len(list((folder / EVENTS).iterdir())) == 1


def test_training_goes_on_without_them(written, tmp_path, capsys):
    config = CONFIG.replace(steps=4)
    with Events(tmp_path / "gone", Images.class_names) as events:
        train(LinearModel(config), Images(), out_dir=tmp_path, progress=False, events=events)
    assert load_checkpoint(tmp_path / CHECKPOINT).step == 4
    assert capsys.readouterr().err.count("warning: the run goes on without TensorBoard's files: ") == 1


# --- from the command line


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    assert main(["data", "shapes", "--root", str(root), "--train", "4", "--val", "2", "--size", "64"]) == 0
    return str(root)


def test_a_missing_package_is_named_before_anything_is_written(shapes, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match="tensorboardX"):
        require_package()
    assert main(["train", "--root", shapes, "--out", str(tmp_path / "run"), *SMALL, "--tensorboard"]) == 2
    assert "pip install 'mrcnn-np[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_and_the_rest_of_it(written, shapes, tmp_path, monkeypatch):
    import mrcnn_np.training.loop as loop

    out, real = tmp_path / "run", loop.train_step

    def interrupted(*args, step, **kwargs):
        if step == 3:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "train_step", interrupted)
    command = ["train", "--root", shapes, "--out", str(out), *SMALL, "--eval-every", "2", "--no-eval", "--tensorboard"]
    assert main(command) == 130
    assert set(scalars_of(out)) == {1, 2, 3}
    monkeypatch.undo()
    assert main(["train", "--out", str(out), "--resume", "--quiet", "--no-eval"]) == 0
    rows = read_steps(out / METRICS)
    assert [r["step"] for r in rows] == [1, 2, 3, 4] and scalars_of(out) == as_scalars(rows)
    assert [step for step, _, _ in pictures_of(out)] == [2, 2, 4, 4]
    assert '"tensorboard": true' in (out / OPTIONS).read_text()
    # anew, without: nothing of the old run stays
    assert main(["train", "--root", shapes, "--out", str(out), *SMALL, "--no-eval", "--overwrite"]) == 0
    assert not list((out / EVENTS).iterdir())
