"""The table of docs/gpu.md: predicted, empty where nothing was measured, and what a measurement puts there."""

import json

import pytest
from sources import ROOT

from kernels.cuda.machine import require
from mrcnn_np.bench.gpu import measure, page
from mrcnn_np.bench.gpu.predict import H100, floors, library, seconds
from mrcnn_np.bench.gpu.works import BANDWIDTH, TARGETS, Gemm, counts_bandwidth, works

PREDICTED = json.loads((ROOT / page.PREDICTED).read_text(encoding="utf-8"))
MEASURED = json.loads((ROOT / page.MEASURED).read_text(encoding="utf-8"))


def found_for(row, ours, theirs):
    found = {name: row[name] for name in ("group", "case", "direction", "bandwidth", "target")}
    times = {"ours": ours, "torch NCHW": theirs, "torch channels_last": 2 * theirs}
    return found | {
        "ms": {name: 2 * ms for name, ms in times.items()} | {"ours": 4 * ours}, "card_ms": times,
        "tf32_card_ms": {"torch NCHW": theirs / 4}, "gflop": None, "gbytes": 0.1,
        "errors": {"ours": 2e-6, "torch NCHW": 1e-6},
    }  # fmt: skip


def test_the_page_is_what_the_predictions_and_the_last_measurement_say():
    text = (ROOT / page.PAGE).read_text(encoding="utf-8")
    assert page.MARKED.search(text)[2] == page.table(PREDICTED, MEASURED)


def test_what_was_not_measured_stays_empty():
    rows = [line for line in page.table(PREDICTED, None).splitlines() if line.startswith("|")][2:]
    assert len(rows) > 60 and all(line.endswith("|  |  |") for line in rows)


def test_every_row_of_the_table_is_predicted():
    there = {(row["group"], row["case"], row["direction"]) for row in PREDICTED["rows"]}
    assert there == {(op.group, op.case, direction) for op in works() for direction in op.directions}
    groups = {row["group"] for row in PREDICTED["rows"]}
    assert set(TARGETS) <= groups
    assert all(any(group.lower().startswith(name.lower()) for group in groups) for name in BANDWIDTH)


def test_no_prediction_is_below_what_the_card_can_do():
    """But for convolutions by Winograd's algorithm, which has fewer multiplications than the floor counts."""
    for row in PREDICTED["rows"]:
        nbytes, flop = row["floors"]["bytes"] or 0, row["floors"]["operations"] or 0
        assert row["ours"] > nbytes, row
        assert row["ours"] > flop / (4 if row["group"].startswith("conv 3x3 stride 1") else 1), row
        assert row["launches"] > 0


def test_a_measurement_stands_beside_its_prediction():
    rows = {(row["group"], row["direction"]): row for row in PREDICTED["rows"]}
    gemm, sgd = rows["GEMM", "forward"], rows["SGD", "update"]
    result = {
        "card": "a card", "date": "2027-01-01", "versions": {"torch": "3"},
        "ceilings": {"copy_gbytes": 200.0, "tflops": 50.0, "tf32_tflops": 400.0},
        "rows": [found_for(gemm, 4.0, 3.0), found_for(sgd, 1.0, 0.5)],
        "network": {"inference": {"ms": {"ours": 10.0, "torch": 9.0}, "peak_mib": {"ours": 900, "torch": 1000}}},
    }  # fmt: skip
    table = page.table(PREDICTED, result)
    assert "| 0.75 (4.00 ms, as called 16.00 ms, 0.38; with TF32 0.19) | 2e-06 / 1e-06 |" in table
    assert "| 0.50 (50% of copy; 1.00 ms, as called 4.00 ms, 0.25; with TF32 0.12) | 2e-06 / 1e-06 |" in table
    assert "| 0.90 (ours 10.00 ms, torch 9.00 ms; MiB ours 900, torch 1000) |" in table
    assert "*Measured* on one a card, 2027-01-01" in table and "Nothing has been measured" not in table


def test_floors_and_times_of_one_product():
    op = Gemm(1000)
    assert floors(op, "forward") == {"operations": pytest.approx(2 / 66.9), "bytes": None}
    assert library(op, "backward") == pytest.approx(4 / 66.9 / 0.78 + 0.002)
    assert seconds([], 0.0) == 0
    assert seconds([], 3.015) == pytest.approx(1.0)
    assert H100.copy < 1
    assert not counts_bandwidth(op)


def test_without_a_card_nothing_is_measured(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(require, "look", lambda: require.Found(driver=(13, 0)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("sys.argv", ["measure", "--out", str(tmp_path / "out")])
    assert measure.main() == 2
    assert "the NVIDIA driver shows no GPU" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
