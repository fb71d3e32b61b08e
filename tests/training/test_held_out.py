"""What is measured while training on images that are held out, and the checkpoint that is kept for it."""

import numpy as np
import pytest
from scenes import sample_of
from small_run import SMALL

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.cli.main import main
from mrcnn_np.errors import DataError
from mrcnn_np.evaluate.split import evaluate_split
from mrcnn_np.molding import make_batch
from mrcnn_np.objective import LOSSES
from mrcnn_np.training.checkpoint import load_checkpoint
from mrcnn_np.training.held_out import HELD_OUT, HeldOut, best_by, best_of, standing
from mrcnn_np.training.run_folder import BEST, METRICS, read_steps

CONFIG = presets.tiny(
    num_classes=2, image_min_size=64, image_max_size=64, detection_score_threshold=0.0, detections_per_image=3
)

BEST_BY = best_by(CONFIG)


class Images:
    """Two images with objects, one without; one may be broken."""

    class_names = ("background", "thing")

    def __init__(self, counts=(2, 1, 0), bad=()):
        self.ids, self.counts, self.bad = tuple(f"image{i}" for i in range(len(counts))), counts, bad

    def __len__(self):
        return len(self.ids)

    def load(self, index):
        if index in self.bad:
            raise DataError("is cut short", path=f"{self.ids[index]}.jpg", image_id=self.ids[index])
        boxes = [(8, 8, 30, 30), (34, 30, 60, 58)][: self.counts[index]]
        return sample_of(boxes, shape=(64, 64), name=self.ids[index])


@pytest.fixture
def model():
    return MaskRCNN(CONFIG, rng=np.random.default_rng(0))


def test_losses_are_means_over_images_and_ap_is_that_of_eval(model):
    held_out, images = HeldOut(Images(), 5, seed=3), Images()
    before = {name: p.copy() for name, p in model.params.items()}
    measured = held_out.measure(model)
    assert list(measured) == ["val_loss", *(f"val_{name}" for name in LOSSES), "val_box_ap50", "val_mask_ap50"]
    assert all((model.params[name] == before[name]).all() for name in before)  # running statistics, too
    assert held_out.measure(model) == measured
    frozen = MaskRCNN(CONFIG.replace(bn_mode="frozen"), model.params)
    for name in LOSSES:
        each = [
            frozen.losses(make_batch([images.load(i)], CONFIG), np.random.default_rng([3, i, HELD_OUT]))[0][name]
            for i in range(3)
        ]
        assert measured[f"val_{name}"] == pytest.approx(np.mean(each), rel=1e-12)
    assert measured["val_loss"] == pytest.approx(sum(measured[f"val_{name}"] for name in LOSSES))
    report = evaluate_split(model, images, progress=False)
    assert measured["val_mask_ap50"] == report.evaluations["mask"].mean_ap
    assert held_out.seconds_a_time(model) > 0


def test_without_objects_there_is_no_ap(model):
    measured = HeldOut(Images((0,)), 5).measure(model)
    assert set(measured) == {"val_loss", *(f"val_{name}" for name in LOSSES)}
    assert measured["val_head_mask"] == 0


def test_a_bad_image_stops_or_is_left_out(model):
    with pytest.raises(DataError, match="image1"):
        HeldOut(Images(bad=[1]), 5).measure(model)
    with_bad = HeldOut(Images((2, 1, 0), bad=[1]), 5, skip_bad=True).measure(model)
    assert np.isfinite(with_bad["val_loss"])


def test_the_best_of_some_lines():
    nothing = (-np.inf, -np.inf)
    assert best_of([]) == best_of([{"step": 1, "loss": 3.0, "val_loss": 1.0}]) == nothing
    rows = [{BEST_BY: ap, "val_loss": 2.0} for ap in (0.0, 0.25, 0.2)]
    assert best_of([rows[0], {"loss": 1.0}, *rows[1:]], BEST_BY) == (0.25, -2.0)
    # an AP of 1 says no more: then the loss does
    easy = [{BEST_BY: 1.0, "val_loss": loss} for loss in (0.7, 0.4, 0.5)]
    assert best_of(easy) == standing(easy[1]) == (1.0, -0.4)
    assert standing({BEST_BY: 0.0}) > standing({"val_loss": 0.1})


def test_what_decides_is_what_the_network_is_for():
    assert best_by(CONFIG) == BEST_BY == "val_mask_ap50"
    assert best_by(CONFIG.replace(mask_branch=False)) == "val_box_ap50"
    assert best_by(CONFIG.replace(keypoints=17)) == "val_keypoints_ap50"


# --- from the command line


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    assert main(["data", "shapes", "--root", str(root), "--train", "6", "--val", "2", "--size", "64"]) == 0
    return str(root)


def test_a_run_measures_keeps_the_best_and_goes_on_to_the_same_bits(shapes, tmp_path, monkeypatch, capsys):
    import mrcnn_np.training.loop as loop

    options = [*SMALL, "--eval-every", "2", "--no-eval", "--no-pictures", "--steps", "5"]
    whole, parts, plain = (tmp_path / name for name in ("whole", "parts", "plain"))
    assert main(["train", "--root", shapes, "--out", str(whole), *options]) == 0
    rows = read_steps(whole / METRICS)
    assert [row["step"] for row in rows if "val_loss" in row] == [2, 4, 5]
    best = load_checkpoint(whole / BEST)
    assert best.step == max((r for r in rows if BEST_BY in r), key=lambda r: (r[BEST_BY], -r["step"]))["step"]
    real = loop.train_step

    def interrupted(*args, step, **kwargs):
        if step == 3:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", interrupted)
        assert main(["train", "--root", shapes, "--out", str(parts), *options]) == 130
    assert main(["train", "--out", str(parts), "--resume", "--quiet", "--no-eval", "--no-pictures"]) == 0
    for name in ("checkpoint.safetensors", BEST, METRICS, "config.json"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    # measuring changes nothing of the training
    capsys.readouterr()
    assert main(["eval", "--checkpoint", str(whole / BEST), "--root", shapes, "--split", "val", "--quiet"]) == 0
    assert main(["train", "--root", shapes, "--out", str(plain), *SMALL, "--no-eval", "--steps", "5"]) == 0
    assert (plain / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()
    assert not (plain / BEST).exists()
    assert main(["train", "--root", shapes, "--out", str(whole), "--overwrite", *SMALL, "--no-eval"]) == 0
    assert not (whole / BEST).exists()


def test_without_held_out_images_it_says_so(shapes, tmp_path, capsys):
    more = ["--eval-every", "2", "--val-split", "nowhere", *SMALL]
    assert main(["train", "--root", shapes, "--out", str(tmp_path / "a"), *more]) == 2
    assert "there are no held-out images" in capsys.readouterr().err
