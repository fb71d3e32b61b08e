"""On a real GPU: the model at its real size beside the CPU backend, the same bits twice, and compute-sanitizer.

``make test-gpu`` runs this and, on the card, the tests that elsewhere run in the simulator (``tests/cuda``).
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_ranks import on_cards

import kernels
from kernels.cuda.machine import require
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.molding import make_batch
from mrcnn_np.parallel.ranks import Ranks
from mrcnn_np.synthetic import batch, params_that_detect, picture, sample_from
from mrcnn_np.training.loop import train_step
from mrcnn_np.training.optim import zero_velocity

REASON = "not asked for (MRCNN_NP_GPU=1)" if os.environ.get("MRCNN_NP_GPU") != "1" else require.why_not(require.look())
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no GPU: {REASON}")
SIZE = (800, 1088)
SANITIZER = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"


@pytest.fixture(scope="module")
def config():
    return presets.by_name("torchvision", image_min_size=SIZE[0], image_max_size=SIZE[1], batch_size=1)


@pytest.fixture(scope="module")
def params():
    with kernels.use("numpy"):  # the kernels of the CPU would have to be compiled for it
        return params_that_detect(presets.by_name("torchvision"))


def copied(params):
    return {name: p.copy() for name, p in params.items()}


def test_detections_are_those_of_the_cpu(config, params):
    with kernels.use("numpy"):
        image, found = picture(SIZE), {}
    for backend in ("cpu", "cuda"):
        with kernels.use(backend):
            found[backend] = MaskRCNN(config, copied(params)).detect(image)[0]
    ours, theirs = found["cuda"], found["cpu"]
    assert abs(len(ours.scores) - len(theirs.scores)) <= 1
    count = min(len(ours.scores), len(theirs.scores))
    np.testing.assert_allclose(np.sort(ours.scores)[-count:], np.sort(theirs.scores)[-count:], atol=1e-3)
    # the same boxes, but for neighbours of equal score
    distance = np.abs(ours.boxes[:, None] - theirs.boxes[None]).max(axis=2)
    assert (distance.min(axis=1) < 0.5).mean() > 0.95


def test_losses_and_gradients_are_those_of_the_cpu(config, params):
    with kernels.use("numpy"):
        ready, found = batch(SIZE, config), {}
    targets = None
    for backend in ("cpu", "cuda"):
        model = MaskRCNN(config, copied(params))
        with kernels.use(backend):
            losses, cache = model.losses(ready, 0, targets=targets)
            targets = kernels.to_host(cache.targets)
            found[backend] = losses, kernels.to_host(model.backward(cache, consume=True))
    assert found["cuda"][0] == pytest.approx(found["cpu"][0], rel=1e-3)
    ours, theirs = (found[backend][1] for backend in ("cuda", "cpu"))
    norm = np.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in theirs.values()))
    apart = np.sqrt(sum(float(np.square(ours[n] - g, dtype=np.float64).sum()) for n, g in theirs.items()))
    assert apart < 1e-3 * norm


def test_keypoints_are_those_of_the_cpu():
    """Of the whole head, eight convolutions of 512 channels, over a small image and few regions, the same for both."""
    config = presets.by_name("torchvision", num_classes=2, keypoints=17, mask_branch=False, batch_size=1)
    config = config.replace(image_min_size=256, image_max_size=320, rois_per_image=32, detections_per_image=5)
    with kernels.use("numpy"):
        params, ready, image = params_that_detect(config), batch((256, 320), config), picture((256, 320))
    found, targets = {}, None
    for backend in ("cpu", "cuda"):
        model = MaskRCNN(config, copied(params))
        with kernels.use(backend):
            losses, cache = model.losses(ready, 0, targets=targets)
            targets = kernels.to_host(cache.targets)
            grads = kernels.to_host(model.backward(cache, consume=True))
            found[backend] = losses, grads, MaskRCNN(config, copied(params)).detect(image)[0]
    (ours, grads, seen), (theirs, expected, wanted) = found["cuda"], found["cpu"]
    assert ours == pytest.approx(theirs, rel=1e-3) and ours["head_keypoint"] > 0
    head = [name for name in expected if name.startswith("keypoint_head")]
    norm, apart = (
        np.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays))
        for arrays in ([expected[name] for name in head], [grads[name] - expected[name] for name in head])
    )
    assert apart < 1e-2 * norm  # CPU and NumPy: 2.3e-3, where some ReLUs are on in one and off in the other
    assert seen.keypoints.shape[1:] == (17, 2) and abs(len(seen.scores) - len(wanted.scores)) <= 1


def test_two_trainings_have_the_same_bits(config, params):
    with kernels.use("numpy"):
        ready, found = batch(SIZE, config), []
    for _ in range(2):
        model = MaskRCNN(config, copied(params))
        with kernels.use("cuda"):
            velocity = zero_velocity(model.params, config)
            records = [
                train_step(model, ready, velocity, step=step, rng=np.random.default_rng(step)) for step in range(3)
            ]
        found.append((records, kernels.to_host(model.params)))
    (first, one), (second, other) = found
    assert first == second
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.skipif(not Path(SANITIZER).exists(), reason="compute-sanitizer is not installed")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_compute_sanitizer_finds_nothing(tool):
    script = Path(__file__).with_name("small_run.py")
    command = [SANITIZER, "--tool", tool, "--error-exitcode", "9", sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = done.stdout + done.stderr
    if "Device not supported" in said:
        pytest.skip("compute-sanitizer does not support this device")
    # CuPy's own scan lets the threads of a warp share memory without a barrier, which racecheck warns of
    places = re.findall(r"access at (?:void )?(\w+)", said) if tool == "racecheck" else []
    assert not [name for name in places if not name.startswith("cupy_")], said[-6000:]
    assert done.returncode == 0 or places, said[-6000:]
    assert re.search(r"SUMMARY: .*\b0 errors", said), said[-6000:]


def test_sums_from_card_to_card():
    """One rank by itself, since two may not share a card: the sum is what there was, in the order of the streams."""
    import cupy

    from kernels.cuda.machine import cards

    if (reason := cards.why_no_nccl()) is not None:
        pytest.skip(f"NCCL cannot be loaded (extra cuda-mpi): {reason}")
    cards.take_card(0)
    sums = cards.NcclSums(0, 1, cards.new_key())
    for dtype in (np.float32, np.float64):
        x = cupy.zeros(1 << 22, dtype)
        for _ in range(20):  # still being written when the sum is asked for
            x += 1
        out = cupy.empty_like(x)
        arrival = sums.begin(x, out)
        arrival.Wait()
        twice = out * 2
        assert (kernels.to_host(twice) == 40).all() and arrival.Test()
    assert cards.nccl_version().count(".") == 2


@pytest.mark.parametrize("bn_mode", ["frozen", "train"])
def test_two_ranks_on_one_card_are_one_process(bn_mode):
    config = presets.by_name("tiny", batch_size=2, bn_mode=bn_mode, image_min_size=128, image_max_size=128)
    with kernels.use("numpy"):
        images = [sample_from(picture((128, 128), seed), config, seed=seed) for seed in range(2)]

    def step(ranks):
        model = MaskRCNN(config, rng=np.random.default_rng(0))
        velocity = zero_velocity(model.params, config)
        own = make_batch([images[i] for i in ranks.share(2)], config)
        record = train_step(model, own, velocity, step=0, rng=np.random.default_rng(1), ranks=ranks)
        return record, kernels.to_host(velocity)

    with kernels.use("cuda"):
        whole, expected = step(Ranks())
    largest = max(float(np.abs(v).max()) for v in expected.values())
    for record, velocity in on_cards(2, step):
        assert record == pytest.approx(whole, rel=1e-3)
        assert max(float(np.abs(velocity[name] - v).max()) for name, v in expected.items()) < 1e-3 * largest
