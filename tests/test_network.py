import numpy as np
import pytest

from mrcnn_np.config import presets
from mrcnn_np.errors import CheckpointError
from mrcnn_np.network import check, initialise, spec
from mrcnn_np.params import count

TINY = presets.tiny()


@pytest.fixture(scope="module")
def tiny_params():
    return initialise(TINY, np.random.default_rng(0))


# torchvision's resnet.py: numel of every parameter, without the classifier
BACKBONES = [
    ("resnet18", 11_176_512),
    ("resnet34", 21_284_672),
    ("resnet50", 23_508_032),
    ("resnet101", 42_500_160),
    ("resnet152", 58_143_808),
    ("resnext50_32x4d", 22_979_904),
    ("resnext101_32x8d", 86_742_336),
]


@pytest.mark.parametrize("name, expected", BACKBONES)
def test_backbone_counts(name, expected):
    assert count(spec(presets.torchvision(backbone=name)), "backbone.") == expected


@pytest.mark.parametrize("name, expected", BACKBONES)
def test_backbone_counts_are_torchvisions(name, expected):
    models = pytest.importorskip("torchvision").models
    torch = pytest.importorskip("torch")
    with torch.device("meta"):  # shapes only
        model = models.get_model(name)
    assert sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.fc.parameters()) == expected


def test_the_second_version_counts_as_torchvision_publishes():
    # meta["num_params"] of MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1
    shapes = spec(presets.torchvision_v2())
    assert count(shapes) == 46_359_409
    # By hand: (256 + 512 + 1024 + 2048) * 256 + 4 * 9 * 256 * 256 weights and 8 norms, no biases
    assert count(shapes, "fpn.") == 983_040 + 2_359_296 + 8 * 512
    # The second 3x3 convolution
    assert count(shapes, "rpn.") == 593_935 + 9 * 256 * 256 + 256
    # 4 3x3 convolutions with norms; 7 * 7 * 256 numbers to 1024; 91 classes and 4 deltas for each
    assert count(shapes, "box_head.") == 4 * (589_824 + 512) + 12_544 * 1024 + 1024 + 1025 * 5 * 91
    assert count(shapes, "mask_head.conv") + count(shapes, "mask_head.bn") == 4 * (589_824 + 512)


def test_parts_add_up_and_keep_the_order_of_the_data_flow():
    names = list(spec(TINY))
    parts = ["backbone.", "fpn.", "rpn.", "box_head.", "mask_head."]
    assert sum(count(spec(TINY), part) for part in parts) == count(spec(TINY))
    order = [next(i for i, part in enumerate(parts) if name.startswith(part)) for name in names]
    assert order == sorted(order)


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_shapes_follow_the_suffixes(name):
    ranks = {"w": (2, 4), "b": (1,), "gamma": (1,), "beta": (1,), "mean": (1,), "var": (1,)}
    for tensor, s in spec(presets.by_name(name)).items():
        assert len(s.shape) in ranks[tensor.rsplit(".", 1)[1]], tensor


def test_matterport_has_biases_before_norms_and_two_logits():
    shapes = spec(presets.matterport())
    assert "backbone.stem.conv.b" in shapes and "backbone.stem.conv.b" not in spec(presets.torchvision())
    assert shapes["rpn.objectness.w"].shape == (1, 1, 512, 6)
    assert shapes["box_head.conv1.w"].shape == (7, 7, 256, 1024)
    assert "mask_head.bn4.gamma" in shapes


# --- initialise ---


def test_initialise_follows_the_spec(tiny_params):
    shapes = spec(TINY)
    assert list(tiny_params) == list(shapes)
    for name, s in shapes.items():
        p = tiny_params[name]
        assert p.shape == s.shape and p.dtype == np.float32
        if s.init == "zeros":
            assert not p.any()
        elif s.init == "ones":
            assert (p == 1).all()
        else:
            # The standard deviation of n draws has itself the relative deviation 1 / sqrt(2 n); four of them
            assert abs(p.std() / s.init - 1) < 4 / np.sqrt(2 * p.size), name


def test_initialise_in_float64_draws_the_same_numbers(tiny_params):
    double = initialise(TINY, np.random.default_rng(0), np.float64)
    for name, p in tiny_params.items():
        assert double[name].dtype == np.float64
        np.testing.assert_array_equal(double[name].astype(np.float32), p)


def test_initialise_depends_on_the_seed_alone(tiny_params):
    again, other = initialise(TINY, np.random.default_rng(0)), initialise(TINY, np.random.default_rng(1))
    assert all(np.array_equal(again[name], p) for name, p in tiny_params.items())
    assert not np.array_equal(other["rpn.conv.w"], tiny_params["rpn.conv.w"])


# --- check ---


def test_check_accepts_what_initialise_makes(tiny_params):
    check(tiny_params, TINY)


def test_check_lists_every_difference(tiny_params):
    params = dict(tiny_params)
    del params["rpn.conv.b"]
    params["extra.w"] = np.zeros((2, 2))
    params["fpn.lateral2.b"] = np.zeros(3)
    with pytest.raises(CheckpointError) as error:
        check(params, TINY)
    assert "configuration 'tiny'" in str(error.value)
    assert f"missing     rpn.conv.b ({TINY.rpn_channels},)" in str(error.value)
    assert "unexpected  extra.w (2, 2)" in str(error.value)
    assert f"shape       fpn.lateral2.b is (3,), expected ({TINY.fpn_channels},)" in str(error.value)


def test_check_shortens_a_long_list():
    total = len(spec(TINY))
    with pytest.raises(CheckpointError, match=f"and {total - 20} more"):
        check({}, TINY)


# --- networks that read one map ---


def test_c4_counts_as_detectron2():
    """mask_rcnn_R_50_C4: ResNet-50 whole, C5 as the head; 15 anchors on C4; 7x7 maps of 2048 channels to masks."""
    shapes = spec(presets.detectron2_c4())
    assert count(shapes, "backbone.") == 23_508_032  # the whole of ResNet-50: C5 is the head
    assert count(shapes, "rpn.") == 1024 * 1024 * 9 + 1024 + 1025 * 15 * 5
    assert count(shapes, "box_head.") == 2049 * 81 * 5
    assert count(shapes, "mask_head.") == 4 * 2048 * 256 + 256 + 257 * 81
    assert not any(name.startswith("fpn.") for name in shapes)


def test_a_network_without_masks_has_no_mask_head():
    whole, boxes = spec(presets.tiny_c4()), spec(presets.tiny_c4(mask_branch=False))
    assert {name for name in whole if name not in boxes} == {name for name in whole if name.startswith("mask_head.")}


def test_c5_is_a_part_only_where_it_is_read():
    one_map = {"neck": "none", "anchor_strides": (16,)}
    assert not any(name.startswith("backbone.c5.") for name in spec(presets.tiny(**one_map)))
    assert any(name.startswith("backbone.c5.") for name in spec(presets.tiny_c4()))
