"""Weights in a network with other classes: what is kept to the bit, what is drawn, which rows follow their name."""

import numpy as np
import pytest
import safetensors.numpy

from mrcnn_np import presets
from mrcnn_np.errors import UserError, WeightMismatchError
from mrcnn_np.network import spec
from mrcnn_np.params import draw
from mrcnn_np.training.checkpoint import Checkpoint, save_checkpoint
from mrcnn_np.weights import load_weights, save_weights
from mrcnn_np.weights.class_names import class_rows, coco_names, read_class_names
from mrcnn_np.weights.manifest import Manifest
from mrcnn_np.weights.torchvision import state_shapes, to_torchvision
from mrcnn_np.weights.transfer import CLASS_LAYERS, by_part, read_start, start_config, transfer

SMALL = {
    "backbone": "tiny", "fpn_channels": 8, "rpn_channels": 12, "box_head_channels": 16, "mask_head_channels": 6,
}  # fmt: skip
NAMES = ("background", "cat", "traffic light", "tv")
CONFIG = presets.torchvision(num_classes=4, **SMALL)
FILE = "some file"


def params_of(config=CONFIG, dtype=np.float32):
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(s.shape).astype(dtype) for name, s in spec(config).items()}


def saved(tmp_path, config=CONFIG, names=NAMES, **more):
    path = tmp_path / "w.safetensors"
    manifest = Manifest.from_config(config, source="test", class_names=names)
    save_weights(path, params_of(config, **more), config, manifest=manifest)
    return path


def start(path, class_names, preset=None, seed=5):
    weights = read_start(path, preset)
    config = start_config(weights, preset, len(class_names))
    return transfer(weights, config, class_names, np.random.default_rng(seed), FILE), config


# --- names ----------------------------------------------------------------------------------------------------------


def test_classes_are_found_by_name():
    assert class_rows(NAMES, ("background", "TV", "dog", "traffic_light")) == (0, 3, -1, 2)
    assert class_rows((), NAMES) == (0, -1, -1, -1)
    assert class_rows(("background", "a", "unused", "unused", "b"), ("background", "unused", "b")) == (0, 2, 4)


def test_all_classes_of_voc_are_among_cocos():
    from mrcnn_np.data import VOC_CLASSES

    coco = coco_names(91)
    rows = class_rows(coco, VOC_CLASSES)
    assert len(set(rows)) == len(rows) == 21 and -1 not in rows
    assert [coco[rows[VOC_CLASSES.index(name)]] for name in ("aeroplane", "sofa", "tvmonitor", "pottedplant")] == [
        "airplane", "couch", "tv", "potted plant",
    ]  # fmt: skip


def test_names_from_the_command_line(tmp_path):
    (tmp_path / "names.txt").write_text("\ufeffBackground\ncat\n\n traffic light\r\ntv\n")
    expected = ("background", "cat", "traffic light", "tv")
    assert read_class_names("cat, traffic light ,tv", 4) == expected
    assert read_class_names(str(tmp_path / "names.txt"), 4) == expected
    with pytest.raises(UserError, match=r"has 5 names \(a, b, c, d and 1 more\); the network has 3 classes"):
        read_class_names("a,b,c,d,e", 4)
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read the class names in"):
        read_class_names(str(tmp_path / "names.txt"), 4)


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_only_three_layers_know_the_number_of_classes(preset):
    four, five = (spec(presets.by_name(preset, num_classes=k)) for k in (4, 5))
    assert list(four) == list(five)
    layers = {name.rpartition(".")[0] for name in four if four[name].shape != five[name].shape}
    assert layers == {layer for layer in CLASS_LAYERS if f"{layer}.w" in four}
    for name in four:
        layer = name.rpartition(".")[0]
        if layer in layers:
            assert (four[name].shape[-1], five[name].shape[-1]) == (4 * CLASS_LAYERS[layer], 5 * CLASS_LAYERS[layer])


# --- parameters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_classes_take_everything(tmp_path, dtype):
    path = saved(tmp_path, dtype=dtype)
    found, config = start(path, NAMES)
    assert found.drawn == found.kept == () and len(found.taken) == len(spec(config))
    for name, p in params_of(dtype=dtype).items():
        assert found.params[name].dtype == dtype and found.params[name].tobytes() == p.tobytes()


def test_rows_follow_the_names_of_their_classes(tmp_path):
    names = ("background", "dog", "tv", "bird", "cat", "bear")
    found, config = start(saved(tmp_path), names)
    assert found.kept == ("background", "tv", "cat") and config.num_classes == 6
    assert {name.rpartition(".")[0] for name in found.drawn} == set(CLASS_LAYERS) and len(found.drawn) == 6
    assert list(found.params) == list(spec(config))
    old, fresh = params_of(), draw({n: spec(config)[n] for n in found.drawn}, np.random.default_rng(5))
    outputs = {"box_head.class": 1, "box_head.deltas": 4, "mask_head.logits": 1}
    for name in found.params:
        layer = name.rpartition(".")[0]
        if layer not in outputs:
            assert found.params[name].tobytes() == old[name].tobytes()
            continue
        n = outputs[layer]
        for k, row in enumerate((0, None, 3, None, 1, None)):  # of cat, traffic light, tv
            source = fresh[name][..., k * n : k * n + n] if row is None else old[name][..., row * n : row * n + n]
            np.testing.assert_array_equal(found.params[name][..., k * n : k * n + n], source, err_msg=f"{name} {k}")


def test_one_order_of_the_classes_is_not_another(tmp_path):
    found, _ = start(saved(tmp_path), ("background", "tv", "cat", "traffic light"))
    assert found.kept == ("background", "tv", "cat", "traffic light")
    np.testing.assert_array_equal(found.params["box_head.class.b"], params_of()["box_head.class.b"][[0, 3, 1, 2]])


def test_without_names_only_the_background_is_known(tmp_path):
    found, _ = start(saved(tmp_path, names=()), NAMES)  # as many classes, but which?
    assert found.kept == ("background",)
    b = found.params["box_head.class.b"]
    assert b[0] == params_of()["box_head.class.b"][0] and not b[1:].any()


def test_a_backbone_goes_into_any_preset(tmp_path):
    state = to_torchvision(params_of(), state_shapes(CONFIG), channels=8)
    body = {n.removeprefix("backbone.body."): a for n, a in state.items() if n.startswith("backbone.body.")}
    path = tmp_path / "imagenet.safetensors"
    path.write_bytes(safetensors.numpy.save(body | {"fc.bias": np.zeros(5, np.float32)}))
    found, config = start(path, NAMES, preset="small")
    own = load_weights(path).manifest.config()
    own_fields = ("backbone", "pixel_mean", "pixel_std", "bn_eps", "bn_mode", "stride_in_1x1", "channel_order")
    assert config == presets.small(num_classes=4, **{name: getattr(own, name) for name in own_fields})
    assert (config.bn_mode, config.pixel_mean, config.image_max_size) == ("frozen", (0.485, 0.456, 0.406), 256)
    assert all(name.startswith("backbone.") for name in found.taken) and found.kept == ()
    assert set(found.taken) | set(found.drawn) == set(spec(config))
    for name in found.taken:
        assert found.params[name].tobytes() == params_of()[name].tobytes()
    assert start(path, NAMES)[1].name == "torchvision"
    first, same, other = (start(path, NAMES, seed=seed)[0].params["rpn.conv.w"] for seed in (1, 1, 2))
    assert first.tobytes() == same.tobytes() != other.tobytes()


def test_conventions_stay_and_an_earlier_schedule_ends(tmp_path):
    config = presets.tiny(
        bn_eps=1e-3, roi_aligned=False, image_max_size=96, image_min_size=96, steps=7, frozen=("fpn.*",)
    )
    path = tmp_path / "checkpoint.safetensors"
    names = ("background", "circle", "square", "triangle")
    save_checkpoint(path, Checkpoint(3, 0, config, names, params_of(config), {}))
    found, again = start(path, names)
    assert again == config.replace(steps=presets.tiny().steps, frozen=()) and found.drawn == ()
    config = presets.tiny(name="my own", steps=7)
    save_checkpoint(path, Checkpoint(3, 0, config, names, params_of(config), {}))
    assert start(path, names)[1].steps == 90000  # the default of Config


def test_a_whole_network_stays_what_it_is(tmp_path):
    path = saved(tmp_path)
    with pytest.raises(WeightMismatchError, match="belongs to another configuration"):
        read_start(path, "detectron2")
    weights = read_start(path, "torchvision")
    changed = start_config(weights, None, 7).replace(rpn_channels=5)
    with pytest.raises(WeightMismatchError) as caught:
        transfer(weights, changed, ("background", *"abcdef"), np.random.default_rng(0), FILE)
    text = str(caught.value)
    assert text.startswith("some file does not fit the network") and "rpn.conv.b" in text and "(5)" in text
    assert "box_head.class" not in text  # the classes may differ


def test_names_in_words():
    assert by_part(["a.b", "c"]) == "a.b, c"
    assert by_part([*(f"backbone.{i}" for i in range(6)), "fpn.x"]) == "backbone 6, fpn 1"
