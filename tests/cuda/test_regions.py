"""Operations on regions in the simulator against their NumPy bodies: odd sizes, no region, one pixel, ties."""

import numpy as np
import pytest
from cuda_cases import boxes_of, check, device_tree, same_in_any_order

from kernels.cuda import crop_and_resize as cuda_crop
from kernels.cuda import roi_align as cuda_align
from kernels.cuda import roi_pool as cuda_pool
from kernels.cuda.machine.device import to_device
from mrcnn_np.ops.crop_and_resize import crop_and_resize, crop_and_resize_backward
from mrcnn_np.ops.roi_align import roi_align, roi_align_backward
from mrcnn_np.ops.roi_pool import roi_pool, roi_pool_backward

MAPS = [(2, 5, 7, 5), (1, 1, 1, 1), (3, 4, 3, 3)]


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_roi_align(shape, sampling_ratio, reduce):
    rng = np.random.default_rng(sampling_ratio)
    for count, size, aligned in ((5, (3, 2), True), (2, (1, 3), False), (0, 2, True)):
        args = draw(rng, *shape), boxes_of(rng, count, 2.0 * max(shape[1:3])), rng.integers(0, shape[0], count)
        options = {
            "output_size": size, "spatial_scale": 0.5, "sampling_ratio": sampling_ratio, "aligned": aligned,
            "reduce": reduce,
        }  # fmt: skip
        wanted, its = roi_align.reference(*args, **options)
        found, cache = cuda_align.roi_align(*device_tree(args), **options)
        check(found, wanted)
        dy, there = draw(rng, *wanted.shape), draw(rng, *shape)
        # Two samples may tie but for rounding: hold the gradients to one and the same winner
        wanted = roi_align_backward.reference(dy, its)
        its = device_tree(its)
        assert type(cache) is type(its) and (cache.winner is None) == (its.winner is None)
        if reduce == "max":
            assert cache.winner.dtype.kind == "u" and cache.winner.shape == its.winner.shape
            if sampling_ratio:
                assert cache.winner.dtype == its.winner.dtype
            assert (cache.winner.get() != its.winner.get()).sum() <= 1
        check(cuda_align.roi_align_backward(to_device(dy), its), wanted)
        into = to_device(there)
        assert cuda_align.roi_align_backward(to_device(dy), its, into=into) is into
        check(into, wanted + there)
