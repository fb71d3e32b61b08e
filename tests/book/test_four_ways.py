"""The fourth text of an operation: CUDA's kernels, simulated in a process beside the notebook's."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kernels import use
from mrcnn_np.ops.conv import conv2d, conv2d_backward
from mrcnn_np.ops.losses import smooth_l1
from mrcnn_np.ops.resize import upsample_nearest
from mrcnn_np.ops.roi_align import roi_align, roi_align_backward

BOOK = Path(__file__).parents[2] / "book"


@pytest.fixture(scope="module")
def helpers():
    pytest.importorskip("IPython")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BOOK))
        import helpers

        yield helpers
        helpers._simulator().shutdown()
        helpers._simulator.cache_clear()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_caches_of_numpy_go_to_both(helpers, rng):
    x, w, dy = rng.normal(size=(1, 4, 5, 3)), rng.normal(size=(3, 3, 3, 2)), rng.normal(size=(1, 4, 5, 2))
    with use("numpy"):
        y, cache = conv2d(x, w, padding=1)
        back = conv2d_backward(dy, cache)
    (compiled, _), (on_card, _) = helpers.on_both(conv2d, x, w, padding=1)
    for exact, *others in ((y, compiled, on_card), *zip(back[:2], *helpers.on_both(conv2d_backward, dy, cache))):
        for other in others:
            assert isinstance(other, np.ndarray) and other.dtype == np.float32
            np.testing.assert_allclose(other, exact, rtol=1e-4, atol=1e-5)
    assert "NUMBA_ENABLE_CUDASIM" not in os.environ


def test_what_one_changes_the_other_has_not_seen(helpers, rng):
    maps, boxes, index = rng.normal(size=(1, 5, 5, 2)), np.array([[0.0, 0, 4, 4]]), np.zeros(1, np.int64)
    y, cache = roi_align(maps.astype(np.float32), boxes, index, output_size=2, spatial_scale=1.0)
    into = np.zeros((1, 5, 5, 2), np.float32)  # both add to it
    compiled, on_card = helpers.on_both(roi_align_backward, np.ones_like(y), cache, into=into)
    np.testing.assert_allclose(on_card, compiled, rtol=1e-5)
    assert compiled.sum() == pytest.approx(y.size, rel=1e-5)


@pytest.mark.parametrize(
    ("function", "args"),
    [(conv2d, (np.zeros((1, 3, 3, 1), int), np.zeros((1, 1, 1, 1), int))), (np.zeros, (3,))],
    ids=["integers", "no kernel at all"],
)
def test_numpy_does_not_pass_for_cuda(helpers, function, args):
    with pytest.raises(AssertionError, match="no kernel of the backend cuda"):
        helpers.simulated(function, *args)


def test_numpy_does_not_pass_for_the_compiled_kernel(helpers):
    with pytest.raises(AssertionError, match="no kernel of the backend cpu"):
        helpers.on_both(smooth_l1, np.ones((2, 4)), np.zeros((2, 4)))  # CUDA has one, the processor none
    x = np.arange(8.0).reshape(1, 2, 2, 2)  # far too small to be worth it
    (compiled, _), (on_card, _) = helpers.on_both(upsample_nearest, x)
    assert np.array_equal(compiled, on_card)


def test_the_text_of_a_kernel(helpers):
    text = helpers.kernel_source("repeat_4").data
    assert text.startswith("`kernels/cuda/resize.py`") and "def body(x, scale, y):" in text and '"""' not in text


def test_it_ends_with_a_notebook_that_is_killed():
    pytest.importorskip("IPython")
    program = (
        "import helpers, time\n"
        "if __name__ == '__main__':\n"
        "    print(next(iter(helpers._simulator()._processes)), flush=True)\n"
        "    time.sleep(100)\n"
    )
    paths = os.pathsep.join([str(BOOK), str(BOOK.parent)])
    notebook = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": paths}, text=True
    )
    with notebook:
        child = int(notebook.stdout.readline())
        os.kill(child, 0)  # it lives
        notebook.kill()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    pytest.fail("the simulator's process outlives the notebook's")
