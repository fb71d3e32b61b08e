"""The kernels for regions and boxes on the smallest inputs there are: the cases of the sweep over the CPU's kernels.

Those are nothing at all, one pixel, one channel; forward, and backward with the caches of the body and of the kernel.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from cuda_cases import device_tree

from kernels import use
from kernels.cuda import boxes, crop_and_resize, detections, nms, roi_align, roi_pool, targets
from kernels.cuda.machine.device import is_device, to_device, to_host

spec = importlib.util.spec_from_file_location("cpu_sweep", Path(__file__).parents[1] / "kernels" / "test_sweep.py")
sweep = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sweep)

FORWARD = {
    "iou": boxes.iou, "decode_boxes": boxes.decode_boxes, "nms": nms.nms, "batched_nms": nms.batched_nms,
    "label_anchors": targets.label_anchors, "crop_masks": targets.crop_masks,
    "paste_into_boxes": detections.paste_into_boxes, "roi_align": roi_align.roi_align, "roi_pool": roi_pool.roi_pool,
    "crop_and_resize": crop_and_resize.crop_and_resize,
}  # fmt: skip
BACKWARD = {
    "roi_align": roi_align.roi_align_backward, "roi_pool": roi_pool.roi_pool_backward,
    "crop_and_resize": crop_and_resize.crop_and_resize_backward,
}  # fmt: skip


def same(found, wanted):
    """Compare arrays; the number of a winning sample may have another size."""
    assert is_device(found)
    found = to_host(found)
    assert found.shape == wanted.shape and found.dtype.kind == wanted.dtype.kind
    size = np.abs(wanted).max(initial=1) if wanted.dtype.kind == "f" else 0
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * size)


def same_caches(found, wanted):
    """Compare field by field."""
    assert type(found) is type(wanted)
    for mine, its in zip(found, wanted):
        if isinstance(its, np.ndarray):
            same(mine, its)
        else:
            assert mine == its and type(mine) is type(its)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("extreme", sweep.EXTREMES)
@pytest.mark.parametrize("name", FORWARD)
def test_smallest_inputs(name, extreme):
    rng = np.random.default_rng(1)
    with use("numpy"), np.errstate(all="ignore"):
        for args, how in sweep.CASES[name](np.random.default_rng(0), *sweep.EXTREMES[extreme]):
            wanted = sweep.body(name)(*args, **how)
            found = FORWARD[name](*device_tree(args), **how)
            if found is NotImplemented:  # like the CPU's kernel; the body runs on the device
                assert how.get("method") == "crop_and_resize"
                continue
            if name not in BACKWARD:
                for mine, its in zip(*(r if isinstance(r, tuple) else (r,) for r in (found, wanted))):
                    same(mine, its)
                continue
            same(found[0], wanted[0])
            same_caches(found[1], wanted[1])
            dy = rng.standard_normal(wanted[0].shape).astype(np.float32)
            gradient = sweep.body(f"{name}_backward")(dy, wanted[1])
            for cache in (found[1], device_tree(wanted[1])):
                same(BACKWARD[name](to_device(dy), cache), gradient)
