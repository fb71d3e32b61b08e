"""Every kernel becomes PTX and machine code for two kinds of devices: no float64, no spilling, registers as pinned.

That takes the package numba-cuda and its compilers, but no graphics card (``ptx.py``, in a process of its own).
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("ptx.py")
spec = importlib.util.spec_from_file_location("ptx", SCRIPT)
ptx = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ptx)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None or importlib.util.find_spec("cuda.core") is None,
    reason="the compilers of the extra 'cuda' are not installed",
)
SQUARES = "a float32's square overflows from 1.8e19 on, and the sum runs over forty million numbers"
FLOAT64 = {
    "square_sums": SQUARES, "root_of_sum": SQUARES, "scale_down": "compares that sum's root with the limit",
    "paste_axes": "the coordinates of a pasted mask are float64 in the reference, too",
}  # fmt: skip
MORE_REGISTERS = 8  # that another version of the compiler may take


@pytest.fixture(scope="module")
def found():
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def rows(found):
    return {(name, device): row for name, devices in found["kernels"].items() for device, row in devices.items()}


@pytest.fixture(scope="module")
def pinned():
    return json.loads(ptx.TABLE.read_text())


def test_all_kernels_are_in_the_table(found, pinned):
    assert sorted(found["kernels"]) == sorted(pinned["kernels"]), f"run {SCRIPT.name} --rewrite"
    assert all(sorted(devices) == sorted(ptx.DEVICES) for devices in found["kernels"].values())


def test_the_table_is_up_to_date(found, rows, pinned):
    same_tools = found["tools"] == pinned["tools"]
    for (name, device), row in rows.items():
        wanted = pinned["kernels"][name][device]
        if same_tools:
            assert row == wanted, f"{name}, {device}: run {SCRIPT.name} --rewrite if this is meant"
        else:
            assert row["registers"] <= wanted["registers"] + MORE_REGISTERS, (name, device)
            assert row["shared"] == wanted["shared"], (name, device)


def test_nothing_is_spilt_to_memory(rows):
    """But a few numbers before and after the inner loop of products, so that two blocks find room."""
    for (name, device), row in rows.items():
        most = 256 if name.startswith(("correlate", "gather_sums")) else 0
        assert row["spilt"] <= most and row["stack"] <= most, (name, device, row)


def test_no_float64_but_where_it_is_meant(rows):
    assert {name for (name, _), row in rows.items() if row["float64"]} == set(FLOAT64)


def test_products_are_rounded_where_results_are_compared(rows):
    """Overlaps, places of samples and points, pasted values: no addition is drawn into their products."""
    for name in (
        "iou", "overlap_bits", "best_overlaps", "anchor_labels", "roi_axes", "roi_align_mean", "roi_align_max",
        "roi_align_mean_backward", "roi_align_max_backward", "mask_means", "crop_axes", "crop_points",
        "crop_and_resize_backward", "roi_pool_largest", "paste_axes", "paste_pixels",
    ):  # fmt: skip
        assert all(rows[name, device]["rounded products"] for device in ptx.DEVICES), name


def test_four_numbers_are_read_and_written_at_once_where_meant(rows):
    """By kernels for groups of four, by those of single numbers that go over whole arrays, and by products."""
    meant = [
        key
        for key in rows
        if key[0].endswith("_4")
        or key[0] in ("relu", "relu_backward", "sigmoid", "sigmoid_cross_entropy", "sigmoid_cross_entropy_backward")
        or key[0] in ("scale_down", "descend")
        or key[0].startswith(("correlate", "gather_sums"))
    ]
    assert len(meant) > 40
    for key in meant:
        assert rows[key]["loads of 16 bytes"] and rows[key]["stores of 16 bytes"], key
    assert all(rows["square_sums", device]["loads of 16 bytes"] for device in ptx.DEVICES)
