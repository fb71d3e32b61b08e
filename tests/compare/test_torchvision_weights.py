"""torchvision's files through ``load_weights``, and ours through its ``load_state_dict``."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="comparison needs PyTorch: pip install mrcnn-np[compare]")
torchvision = pytest.importorskip("torchvision", reason="comparison needs torchvision: pip install mrcnn-np[compare]")

from agrees_with_torch import error, nhwc  # noqa: E402
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2  # noqa: E402
from torchvision_that_detects import torchvision_that_detects  # noqa: E402

import kernels  # noqa: E402
from mrcnn_np import MaskRCNN, presets  # noqa: E402
from mrcnn_np.backbone import ARCHITECTURES, backbone  # noqa: E402
from mrcnn_np.compare.torchvision.model import as_tensor  # noqa: E402
from mrcnn_np.network import spec  # noqa: E402
from mrcnn_np.synthetic import picture  # noqa: E402
from mrcnn_np.weights import WeightMismatchError, load_weights, save_weights  # noqa: E402
from mrcnn_np.weights.imagenet import from_imagenet  # noqa: E402
from mrcnn_np.weights.torchvision import read_torchvision, state_shapes  # noqa: E402

NAMES = [name for name in ARCHITECTURES if name.startswith("res")]


@pytest.fixture(scope="module")
def model():
    settings = {"min_size": 128, "max_size": 192, "rpn_pre_nms_top_n_test": 300, "rpn_post_nms_top_n_test": 100}
    image = as_tensor(picture((128, 160)), torch.float64)
    return torchvision_that_detects(image, num_classes=5, box_score_thresh=0.3, **settings).float()


def test_a_checkpoint_of_distributed_training_detects_as_the_model_does(model, tmp_path):
    path = tmp_path / "model_25.pth"
    state = {f"module.{name}": t for name, t in model.state_dict().items()}
    torch.save({"model": state, "epoch": 25, "optimizer": {"param_groups": [{"lr": 0.02}]}}, path)
    weights = load_weights(path)
    image = picture((128, 160))
    with torch.no_grad():
        (expected,) = model([as_tensor(image, torch.float32)])
    sizes = {"image_min_size": 128, "image_max_size": 192, "detection_score_threshold": 0.3}
    counts = {"proposals_pre_nms_test": 300, "proposals_post_nms_test": 100}
    (found,) = MaskRCNN(weights.manifest.config(**sizes, **counts), weights.params).detect([image])
    assert len(found.boxes) == len(expected["boxes"]) >= 20
    # In the order of the scores, of which two may be as good as equal
    assert sorted(found.class_ids) == sorted(expected["labels"].tolist())
    np.testing.assert_allclose(np.sort(found.scores), np.sort(expected["scores"].numpy()), rtol=0, atol=1e-4)
    boxes = expected["boxes"].numpy()[:, [1, 0, 3, 2]]
    distance = np.abs(found.boxes[:, None] - boxes[None]).max(axis=2)
    assert distance.min(axis=0).max() < 1e-2 and distance.min(axis=1).max() < 1e-2  # measured: 3e-4 pixels; scores 1e-5


def test_our_file_of_the_second_version_is_theirs_bit_for_bit(tmp_path):
    """Numbered weights: every tensor, and every number in it, comes back to its place."""
    before, there, back = tmp_path / "before.pth", tmp_path / "ours.safetensors", tmp_path / "after.pth"
    fresh = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=5)
    state = {n: torch.arange(t.numel(), dtype=torch.float32).reshape(t.shape) for n, t in fresh.state_dict().items()}
    torch.save(state, before)
    weights = load_weights(before)
    assert weights.manifest.config() == presets.torchvision_v2(num_classes=5) and not weights.aside
    save_weights(there, weights.params, weights.manifest.config())
    again = load_weights(there)
    save_weights(back, again.params, again.manifest.config(), format="torchvision")
    fresh.load_state_dict(torch.load(back, weights_only=True), strict=True)
    for name, t in fresh.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(t, state[name]), name


def test_our_file_is_theirs_bit_for_bit(model, tmp_path):
    before, there, back = tmp_path / "before.pth", tmp_path / "ours.safetensors", tmp_path / "after.pth"
    state = model.state_dict()
    torch.save(state, before)
    weights = load_weights(before)
    save_weights(there, weights.params, weights.manifest.config())
    again = load_weights(there)
    save_weights(back, again.params, again.manifest.config(), format="torchvision")
    fresh = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=5)
    fresh.load_state_dict(torch.load(back, weights_only=True), strict=True)
    for name, t in fresh.state_dict().items():
        if not name.endswith("num_batches_tracked"):  # we do not count batches
            assert torch.equal(t, state[name]) and t.dtype == state[name].dtype, name


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_has_their_names_and_shapes(name):
    with torch.device("meta"):  # shapes without memory
        state = getattr(torchvision.models, name)(weights=None).state_dict()
    tensors = {n: np.broadcast_to(np.float16(1), tuple(t.shape)) for n, t in state.items()}
    params, manifest, aside = from_imagenet(tensors)
    config = presets.torchvision(backbone=name)
    expected = {n: s.shape for n, s in spec(config).items() if n.startswith("backbone.")}
    assert {n: p.shape for n, p in params.items()} == expected
    assert manifest.config() == config and aside == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize("name", ["resnet50", "resnet18"])
def test_names_and_shapes_of_the_whole_model(name):
    from torchvision.models.detection import MaskRCNN as TheirMaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    with torch.device("meta"):
        backbone = resnet_fpn_backbone(backbone_name=name, weights=None, norm_layer=torch.nn.BatchNorm2d)
        theirs = TheirMaskRCNN(backbone, num_classes=7).state_dict()
    ours = state_shapes(presets.torchvision(num_classes=7, backbone=name))
    assert ours == {n: tuple(t.shape) for n, t in theirs.items()}


def test_names_and_shapes_of_the_second_version():
    with torch.device("meta"):
        theirs = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=7).state_dict()
    ours = state_shapes(presets.torchvision_v2(num_classes=7))
    assert ours == {n: tuple(t.shape) for n, t in theirs.items()}


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_features_of_a_classification_network(tmp_path, name):
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)(weights=None).double().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    path = tmp_path / f"{name}.pth"
    torch.save(network.state_dict(), path)
    weights = load_weights(path)
    config = weights.manifest.config()
    assert config == presets.torchvision(backbone=name)
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with kernels.use("numpy"):
        features, _ = backbone(nhwc(x).numpy(), weights.params, config)
    with torch.no_grad():
        x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
        for level, stage in enumerate((network.layer1, network.layer2, network.layer3, network.layer4)):
            x = stage(x)
            assert error(features[level], nhwc(x).numpy()) < 1e-13  # measured: 4e-15


def test_other_networks_of_torchvision_are_told_apart():
    with torch.device("meta"):
        state = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).state_dict()
    _, manifest, _ = read_torchvision({n: np.broadcast_to(np.float16(1), tuple(t.shape)) for n, t in state.items()})
    assert manifest.config() == presets.torchvision_v2()
    with torch.device("meta"):
        state = torchvision.models.wide_resnet50_2(weights=None).state_dict()
    tensors = {n: np.broadcast_to(np.float16(1), tuple(t.shape)) for n, t in state.items()}
    with pytest.raises(WeightMismatchError, match=r"3-4-6-3 bottleneck blocks.* from 128 to 128 channels"):
        from_imagenet(tensors)
