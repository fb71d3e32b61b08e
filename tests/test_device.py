"""A GPU that is not there, not enough, or too small: what is said. And the sizes that say how much is needed."""

import re
import subprocess
import sys

import pytest

import kernels
from kernels.cuda.machine import require
from kernels.cuda.machine.require import Found, why_not
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.cli.main import main
from mrcnn_np.network import spec
from mrcnn_np.params import count
from mrcnn_np.sizes import layers, memory
from mrcnn_np.synthetic import batch

H100 = Found(driver=(13, 0), devices=1, name="NVIDIA H100 80GB HBM3", capability=(9, 0))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (H100, None),
        (H100._replace(capability=(8, 0), devices=4), None),
        (
            Found(missing=("numba-cuda", "cupy-cuda13x")),
            "numba-cuda and cupy-cuda13x not installed; expected the extra",
        ),
        (Found(missing=("cupy-cuda13x",)), "^cupy-cuda13x not installed"),
        (Found(), "there is no NVIDIA driver"),
        (Found(driver=(12, 4)), r"the NVIDIA driver knows CUDA 12\.4; expected 13\.0 or newer"),
        (Found(driver=(13, 1)), "the NVIDIA driver shows no GPU"),
        (
            H100._replace(name="Tesla T4", capability=(7, 5)),
            r"the GPU Tesla T4 has compute capability 7\.5; expected 8\.0 or newer",
        ),
    ],
)
def test_what_is_missing_is_said(found, reason, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    said = why_not(found)
    assert said is None if reason is None else said is not None and re.search(reason, said)


def test_a_hidden_gpu_is_hinted_at(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert why_not(Found(driver=(13, 0))) == "the NVIDIA driver shows no GPU (CUDA_VISIBLE_DEVICES is '')"


@pytest.fixture
def no_gpu(monkeypatch):
    """Let the machine have a driver without a card."""
    monkeypatch.setattr(require, "look", lambda: Found(driver=(13, 0)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    kernels._kernels.cache_clear()
    yield
    kernels._kernels.cache_clear()


COMMANDS = ["train", "detect --run x image.png", "eval --run x", "compare", "bench", "conventions --run x"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_so_and_does_nothing_else(command, no_gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*command.split(), "--backend", "cuda"]) == 2
    expected = "error: the backend cuda cannot run here: the NVIDIA driver shows no GPU (--backend cpu does without)\n"
    assert capsys.readouterr().err == expected
    assert not list(tmp_path.iterdir())


def test_the_environment_variable_says_so_too(no_gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kernels, "backend", lambda: "cuda")  # what MRCNN_NP_BACKEND sets when the package is imported
    assert main(["detect", "--run", "x", "image.png"]) == 2
    assert "the NVIDIA driver shows no GPU" in capsys.readouterr().err


def test_use_raises_and_changes_nothing(no_gpu):
    before = kernels.backend()
    with pytest.raises(ValueError, match="backend 'cuda' is not available: the NVIDIA driver shows no GPU"):
        kernels.use("cuda").__enter__()
    assert kernels.backend() == before


def test_without_a_gpu_nothing_of_it_is_imported():
    """Where arrays live can be asked, and the coverage printed, without the packages that drive a card.

    In a process of its own: where they are installed, other tests import them.
    """
    code = (
        "import sys, numpy as np, kernels, mrcnn_np.model\n"
        "from kernels import placement\n"
        "tree = {'a': (np.zeros(2), [1])}\n"
        "assert not placement.on_device(np.zeros(2)) and not placement.on_device(3)\n"
        "assert placement.to_host(tree) is tree and kernels.coverage()['conv2d']['cuda']\n"
        "sys.exit('cupy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


# --- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_layers_are_those_of_the_network(preset, monkeypatch):
    """Every convolution and product that runs is in the list, with the same sizes; and no other."""
    side = 128
    config = presets.by_name(preset, num_classes=3).replace(
        image_min_size=side, image_max_size=side, batch_size=2, fpn_channels=8, rpn_channels=8,
        box_head_channels=8, mask_head_channels=8, rois_per_image=4, proposals_post_nms_train=20,
    )  # fmt: skip
    if config.backbone not in ("tiny", "small"):
        config = config.replace(backbone="resnet50")
    ran = []

    def noted(x, w, *args, **kwargs):
        ran.append((len(x), x.shape[1:3] if x.ndim == 4 else (1, 1), w.shape))
        return NotImplemented

    recorders = dict.fromkeys(("conv2d", "conv2d_transpose", "linear"), noted)
    monkeypatch.setattr(kernels, "_kernels", lambda name: recorders)
    model = MaskRCNN(config)
    _, cache = model.losses(batch((side, side), config), 0)
    rois, masks = len(cache.targets.rois), len(cache.targets.masks)
    listed = layers(config, (side, side), images=2, rois=rois, masks=masks)
    tensors = spec(config)
    expected = []
    for layer in listed:
        shape = tensors[f"{layer.name}.w"].shape
        number, rows, columns = layer.maps
        if layer.transposed:
            rows, columns = rows // 2, columns // 2
        elif layer.name == "box_head.conv1" and len(shape) == 4 and shape[0] == config.box_pool_size:
            rows, columns = config.box_pool_size, config.box_pool_size
        expected.append((number, (rows * layer.stride, columns * layer.stride), shape))
    assert sorted(map(str, ran)) == sorted(map(str, expected))
    kernels_of_layers = {layer.name: layer.weights for layer in listed}
    assert sum(kernels_of_layers.values()) <= count(tensors)


def test_memory_grows_with_what_there_is_to_keep():
    config = presets.by_name("torchvision")
    detect, step = (memory(config, (800, 1088), training=training) for training in (False, True))
    parameters = 4 * count(spec(config))
    assert parameters < detect < step
    assert step > 3 * parameters
    assert memory(config, (800, 1088), images=2, training=True) > 1.5 * step
    # one training step of this size takes 1.8 GiB on the CPU, where maps are kept and freed in the same order
    assert 1.2 * 2**30 < step < 3 * 2**30
