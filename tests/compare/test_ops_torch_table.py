"""The table of ``mrcnn-np compare --ops``: every operation within its bounds on both backends, and none left out."""

import importlib
import inspect
import pkgutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
pytest.importorskip("torchvision", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

import kernels  # noqa: E402
import mrcnn_np.ops  # noqa: E402
from mrcnn_np.compare.operations.run import cases, check, markdown, text, verdict, within  # noqa: E402

torch.set_num_threads(1)
CASES = list(cases())
#: parts of the functions above them, or without a counterpart
HELPERS = {"as_pair", "as_padding", "pad_maps", "crop_maps", "check_rois", "neighbours"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op} {case.case}")
def test_within_bounds(case):
    """Measured in float64: at most 3e-15. In float32: 3.8 times PyTorch's error; Winograd 6.8 times direct's."""
    rows = check(case)
    assert rows and all(within(row) for row in rows), text(rows)


def test_no_operation_is_left_out():
    named = {case.op for case in CASES}
    with_backward = {row.op for case in CASES if case.op != "batch_norm" for row in check(case)[1:]} | {"batch_norm"}
    for module in pkgutil.iter_modules(mrcnn_np.ops.__path__):
        functions = inspect.getmembers(importlib.import_module(f"mrcnn_np.ops.{module.name}"), inspect.isfunction)
        for name, function in functions:
            if name.startswith("_") or name in HELPERS or not function.__module__.startswith("mrcnn_np.ops"):
                continue
            forward = name.removesuffix("_backward")
            assert forward in named, name
            assert name == forward or forward in with_backward, name
    accelerated = {op.removesuffix("_backward") for op in kernels.coverage()}
    # Steps of targets.py: test_torchvision_training.py; what paste_masks and sgd_step of the table do;
    # clipping: test_torchvision_train_steps.py
    assert accelerated - {"label_anchors", "crop_masks", "paste_into_boxes", "momentum_step", "clip_gradients"} <= named


def test_a_wrong_operation_is_found():
    (case,) = (case for case in CASES if case.op == "sigmoid")
    right = case.ours

    def slightly_wrong(x):
        y, backward = right(x)
        return y * x.dtype.type(1 + 1e-5), backward

    forward, backward = check(replace(case, ours=slightly_wrong))
    assert not within(forward) and within(backward)
    assert forward.float64 == pytest.approx(1e-5, rel=1e-3)
    assert "NOT within: sigmoid 60x21 forward" in verdict([forward, backward])


def test_a_wrong_decision_is_found():
    (case,) = (case for case in CASES if case.op == "nms")
    (row,) = check(replace(case, ours=lambda *inputs: (case.ours(*inputs)[0][::-1].copy(), None)))
    assert not within(row) and row.float64 > 0.5


def test_the_table_names_every_case():
    rows = [row for case in CASES if case.op in ("relu", "nms") for row in check(case)]
    document = markdown(rows, "facts")
    assert document.count("\n| relu") == 2 and document.count("\n| nms") == 1 and "facts" in document
    assert np.isfinite([row.float64 for row in rows]).all()
