"""What is said while kernels are compiled."""

from types import SimpleNamespace

import numpy as np
import pytest
from numba.core import event
from scenes import sample_of

import kernels
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.cli import first_run, warmup
from mrcnn_np.explain import explain_split
from mrcnn_np.synthetic import picture


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(warmup, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def compile_one(clock, seconds):
    """What Numba tells of one kernel, which compiles another on its way."""
    data = {"dispatcher": SimpleNamespace(py_func=compile_one)}
    event.start_event("numba:compile", data)
    event.start_event("numba:compile", data)
    clock.seconds += seconds
    event.end_event("numba:compile", data)
    event.end_event("numba:compile", data)


def test_the_seconds_are_those_of_compiling(clock, capsys):
    """However long the command ran before, and between."""
    with warmup.announced():
        assert capsys.readouterr().err == ""
        clock.seconds += 300.0
        compile_one(clock, 2.0)
        assert capsys.readouterr().err.startswith("compiling the kernels that no command has needed before; they are")
        clock.seconds += 60.0
        compile_one(clock, 2.0)
        assert capsys.readouterr().err == "  2 kernels done, more may follow; compiling took 4 s so far\n"
        compile_one(clock, 2.0)
        assert capsys.readouterr().err == ""
    compile_one(clock, 9.0)
    assert capsys.readouterr().err == ""


def test_it_is_said_before_the_first_kernel_is_done(clock):
    lines = []
    progress = warmup.Progress(lines.append)
    with warmup.compiling(lambda line: progress.ended(), progress.begins) as progress.seconds:
        compile_one(clock, 40.0)
    assert lines[0].startswith("compiling") and lines[1].startswith("  1 kernel done") and "40 s" in lines[1]


def test_a_model_that_is_warmed_up_stays_as_it_is():
    model = MaskRCNN(presets.tiny(num_classes=2, image_min_size=64, image_max_size=64), rng=np.random.default_rng(0))
    before = {name: p.copy() for name, p in model.params.items()}
    (found,) = first_run.warm_detection(model, picture((64, 64)))
    assert len(found.scores) == 10  # masks are drawn, too
    assert all((model.params[name] == p).all() for name, p in before.items())


class OnePicture:
    class_names, ids = ("background", "thing"), ("a",)

    def __len__(self):
        return 1

    def load(self, index):
        return sample_of([(8, 8, 30, 30), (20, 30, 40, 58)], shape=(48, 72))


def test_explain_calls_nothing_that_is_not_warm(monkeypatch):
    """Two kernels are needed by neither a step nor a detection in pictures of the canvas's size.

    A third is compiled again where a picture leaves some of the canvas free, because its masks lie apart there.
    """
    config = presets.tiny(num_classes=2, image_min_size=64, image_max_size=64, detection_score_threshold=0.0)

    def called(work):
        names = set()
        with kernels.use("numpy"), kernels.watch(lambda name, *rest: names.add(name)):
            work()
        return names

    model = MaskRCNN(config, rng=np.random.default_rng(0))
    explained = called(lambda: explain_split(model, OnePicture(), progress=False))
    before = called(lambda: first_run.warm_up(config))
    two = {"iou", "resize_bilinear"}
    assert explained - before <= two and called(first_run.warm_the_rest) == two | {"crop_masks"}
    compiled = {}
    for kernel in ("boxes._iou", "resize._bilinear", "targets._mean_of_masks"):
        monkeypatch.setattr(f"kernels.cpu.{kernel}", lambda *args, kernel=kernel: compiled.update({kernel: args}))
    with kernels.use("cpu"):
        first_run.warm_the_rest()
    assert sorted(compiled) == ["boxes._iou", "resize._bilinear", "targets._mean_of_masks"]
    assert not compiled["targets._mean_of_masks"][0].flags.c_contiguous
