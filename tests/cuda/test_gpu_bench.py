"""What measures on a GPU runs here in the simulator, with the processor's clock in place of the card's."""

import time

import numpy as np
import pytest

import kernels
from kernels.cuda.machine import device
from mrcnn_np.bench.gpu import measure
from mrcnn_np.bench.gpu.works import Gemm, Upsample
from mrcnn_np.bench.operations.regions import Nms, RoiAlign

pytestmark = pytest.mark.skipif(not device.SIMULATED, reason="the card has `make bench-gpu`")


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    def clock(run, calls, before=None):
        began = time.perf_counter()
        run()
        return (time.perf_counter() - began) * 1e3

    monkeypatch.setattr(measure, "clock_of_cupy", lambda: clock)
    monkeypatch.setattr(measure, "tf32", lambda allowed: measure.tf32_left())
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "keep_busy", lambda milliseconds: None)


@pytest.mark.parametrize(
    "op", [Gemm(12), Upsample((3, 4), 4), RoiAlign(3, 2, 4, (8, 8)), Nms(40)], ids=lambda op: op.group
)
def test_a_row_is_measured_and_its_error_known(op):
    rows = measure.measure_op(op, torch_too=False)
    assert [row["direction"] for row in rows] == list(op.directions)
    for row in rows:
        assert row["ms"]["ours"] > 0 and row["card_ms"]["ours"] > 0
        assert row["errors"].get("ours", 0) < 1e-5
        assert bool(row["errors"]) == (op.group != "NMS")
    assert all(kernels.on_device(v) for v in vars(op).values() if hasattr(v, "__array_function__"))
    assert not any(isinstance(v, np.ndarray) for v in vars(op).values())
