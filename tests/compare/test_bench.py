"""The benchmark beside PyTorch and torchvision: that it runs, at small sizes, and that everyone computes the same."""

import math

import pytest

pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
pytest.importorskip("torchvision", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

from bench_results import bench, check_times

from mrcnn_np.bench.operations.rows import rows


def test_operations_beside_the_framework(tmp_path):
    results = bench(tmp_path, "--only", "ops")
    assert (tmp_path / "bench.png").stat().st_size
    records = results["ops"]["rows"]
    assert [(r["group"], r["case"]) for r in records if r["direction"] != "backward"] == [
        (op.group, op.case) for op in rows(quick=True)
    ]
    for row in records:
        check_times(row)
        assert {"numpy", "cpu"} < set(row["seconds"]) == set(row["error"])
        assert all(e < 1e-3 for e in row["error"].values()), row  # everyone computes the same
    for mean in results["ops"]["means"]:
        ratios = [r["ratio"] for r in records if (r["group"], r["direction"]) == (mean["group"], mean["direction"])]
        assert mean["ratio"] == pytest.approx(math.prod(ratios) ** (1 / len(ratios)))


def test_network_beside_the_framework(tmp_path):
    detect, train = bench(tmp_path, "--only", "network")["network"]["rows"]
    for row in (detect, train):
        check_times(row)
        assert set(row["peak_mib"]) == set(row["seconds"]) == {"cpu", "torch"}
    assert detect["detections"]["cpu"] == detect["detections"]["torch"] == 100
    assert detect["scores_apart"] < 1e-4  # measured: 4e-6
