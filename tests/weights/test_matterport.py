"""Keras 2's .h5 files: written as Keras did and read back; what is no such file is refused with a message."""

import re
import sys

import numpy as np
import pytest

from mrcnn_np.config import presets
from mrcnn_np.errors import WeightFileError, WeightMismatchError
from mrcnn_np.network import spec
from mrcnn_np.weights.formats.keras_h5 import read_matterport, write_matterport
from mrcnn_np.weights.load import load_weights
from mrcnn_np.weights.matterport import by_layer, to_matterport

h5py = pytest.importorskip("h5py", reason="Keras's files need h5py: pip install mrcnn-np[keras]")

# the real widths of the backbone, narrow everywhere else: a file of 100 MB instead of 250
NARROW = {"fpn_channels": 16, "rpn_channels": 24, "box_head_channels": 32, "mask_head_channels": 8}
CONFIG = presets.matterport(num_classes=5, backbone="resnet50", **NARROW)


@pytest.fixture(scope="module")
def params():
    """All different, no two tensors alike, and so regular that a compressed copy is small."""
    return {
        name: ((np.arange(np.prod(s.shape)) + 7 * i) % 1021).reshape(s.shape).astype(np.float32)
        for i, (name, s) in enumerate(spec(CONFIG).items())
    }


@pytest.fixture(scope="module")
def path(params, tmp_path_factory):
    path = tmp_path_factory.mktemp("h5") / "mask_rcnn_coco.h5"
    write_matterport(path, params)
    yield path
    path.unlink()  # 94 MB, which pytest would keep


@pytest.fixture
def small(params, tmp_path):
    """A writer of files of the backbone's first layers only: what must be refused need not be large."""

    def write(change=lambda file: None):
        first = {name: p for name, p in params.items() if name.startswith(("backbone.stem", "backbone.c4.0"))}
        write_matterport(tmp_path / "small.h5", first)
        with h5py.File(tmp_path / "small.h5", "a") as file:
            change(file)
        return tmp_path / "small.h5"

    return write


def backbone_of(params):
    return {name: p for name, p in params.items() if name.startswith("backbone.")}


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, p in expected.items():
        assert found[name].dtype == p.dtype
        np.testing.assert_array_equal(found[name], p, err_msg=name)


# --- files ---


def test_round_trip(path, params):
    found, manifest = read_matterport(path)
    assert_same(found, params)
    assert manifest.source == "matterport" and manifest.config() == CONFIG
    assert manifest.num_classes == 5 and "bn_eps" in manifest.presumed


def test_load_weights_knows_the_file_by_its_contents(path, params):
    weights = load_weights(path, CONFIG)
    assert_same(weights.params, params)
    assert weights.drawn == ()


def test_layout_of_the_file(path):
    """As h5ls shows matterport's: the weight's name repeats the layer's, the proposal network is a group of its own."""
    with h5py.File(path) as file:
        assert file["mrcnn_mask_conv1/mrcnn_mask_conv1/kernel:0"].shape == (3, 3, 16, 8)
        assert file["rpn_model/rpn_conv_shared/kernel:0"].shape == (3, 3, 16, 24)
        names = [name.decode() for name in file["rpn_model"].attrs["weight_names"]]
        assert len(names) == 6 and "rpn_class_raw/bias:0" in names
        assert b"rpn_model" in file.attrs["layer_names"] and b"rpn_conv_shared" not in file.attrs["layer_names"]
        assert [n.decode() for n in file["bn_conv1"].attrs["weight_names"]] == [
            f"bn_conv1/{w}:0" for w in ("gamma", "beta", "moving_mean", "moving_variance")
        ]


def copy_renamed(source, target, rename, root="/"):
    """Copy a file, every weight named ``rename(layer, weight name)``, below the group ``root``."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        top = new.require_group(root)
        layers = [name.decode() for name in old.attrs["layer_names"]]
        # layers without weights are in the list, too
        top.attrs["layer_names"] = np.array([name.encode() for name in ["input_image", *layers]])
        top.create_group("input_image").attrs["weight_names"] = np.array([], "S1")
        for layer in layers:
            group = top.create_group(layer)
            weights = [name.decode() for name in old[layer].attrs["weight_names"]]
            group.attrs["weight_names"] = np.array([rename(layer, w).encode() for w in weights])
            for w in weights:
                a = old[layer][w][()]
                group.create_dataset(rename(layer, w), data=a, compression="lzf" if a.ndim else None)


def test_a_whole_model_with_numbered_names(path, params, tmp_path):
    """model.save() puts the weights into model_weights; a model that was built twice has fpn_c5p5_1/kernel_3:0."""

    def rename(layer, weight):
        name, leaf = weight.split("/")
        return f"{layer}/{name}_1/{leaf.replace(':', '_3:')}"

    copy_renamed(path, tmp_path / "model.h5", rename, "/model_weights")
    assert_same(read_matterport(tmp_path / "model.h5")[0], params)


def test_a_long_list_of_names_is_spread(path, params, tmp_path):
    copy_renamed(path, tmp_path / "long.h5", lambda layer, weight: weight)
    with h5py.File(tmp_path / "long.h5", "a") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        for i, part in enumerate(np.array_split(names, 12)):
            file.attrs[f"layer_names{i}"] = part
    assert_same(read_matterport(tmp_path / "long.h5")[0], params)


@pytest.fixture(scope="module")
def imagenet(params, tmp_path_factory):
    """The backbone as Keras 1 wrote it, with its classifier."""
    folder = tmp_path_factory.mktemp("imagenet")
    old = {"kernel": "W", "bias": "b", "moving_mean": "running_mean", "moving_variance": "running_std"}
    write_matterport(folder / "backbone.h5", backbone_of(params))

    def rename(layer, weight):
        leaf = weight.split("/")[1].removesuffix(":0")
        return f"{layer}_{old.get(leaf, leaf)}_1:0"

    copy_renamed(folder / "backbone.h5", folder / "resnet50_notop.h5", rename)
    (folder / "backbone.h5").unlink()
    with h5py.File(folder / "resnet50_notop.h5", "a") as file:
        file.attrs["layer_names"] = np.append(file.attrs["layer_names"], b"fc1000")
        file.create_group("fc1000").attrs["weight_names"] = np.array([b"fc1000_W_1:0"])
        file["fc1000"]["fc1000_W_1:0"] = np.zeros((2048, 10), np.float32)
    return folder / "resnet50_notop.h5"


def test_imagenet_backbone_of_keras_1(imagenet, params):
    found, manifest = read_matterport(imagenet)
    assert_same(found, backbone_of(params))
    assert manifest.num_classes is None and manifest.backbone == "resnet50" and manifest.bn_eps == 1e-3
    assert manifest.channel_order == "bgr" and manifest.pixel_mean == (103.939, 116.779, 123.68)


def test_imagenet_backbone_below_random_heads(imagenet, params):
    weights = load_weights(imagenet, CONFIG, trust_config=True)
    assert set(weights.params) == set(spec(CONFIG)) and len(weights.drawn) == len(params) - len(backbone_of(params))
    np.testing.assert_array_equal(weights.params["backbone.c5.2.conv3.w"], params["backbone.c5.2.conv3.w"])
    with pytest.raises(WeightMismatchError, match="channel_order"):
        load_weights(imagenet, CONFIG)


# --- refused ---


def test_wrong_number_of_classes(path):
    with pytest.raises(WeightMismatchError, match=r"num_classes +5 +81"):
        load_weights(path, presets.matterport(backbone="resnet50", **NARROW))


def test_heads_that_contradict_each_other(path, params, tmp_path):
    copy_renamed(path, tmp_path / "mixed.h5", lambda layer, weight: weight)
    with h5py.File(tmp_path / "mixed.h5", "a") as file:
        del file["mrcnn_bbox_fc/mrcnn_bbox_fc/kernel:0"]
        file["mrcnn_bbox_fc/mrcnn_bbox_fc/kernel:0"] = np.zeros((32, 84), np.float32)
        file["mrcnn_bbox_fc"].attrs["weight_names"] = np.array([b"mrcnn_bbox_fc/kernel:0"])
    with pytest.raises(WeightMismatchError) as caught:
        read_matterport(tmp_path / "mixed.h5")
    assert re.search(r"box_head.deltas.w +\(32, 20\) +\(32, 84\)", str(caught.value))
    assert re.search(r"box_head.deltas.b +\(20\) +missing", str(caught.value))


def test_part_of_a_backbone(small):
    with pytest.raises(WeightFileError, match=r"no ResNet .* conv1, bn_conv1, res4a_branch2a, bn4a_branch2a"):
        read_matterport(small())


def test_no_hdf5(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(WeightFileError, match="cut short or damaged"):
        read_matterport(tmp_path / "a.h5")
    with pytest.raises(WeightFileError, match="No such file"):
        read_matterport(tmp_path / "missing.h5")


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9])
def test_cut_short(path, tmp_path, share):
    copy_renamed(path, tmp_path / "a.h5", lambda layer, weight: weight)
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(WeightFileError, match="cut short or damaged"):
        read_matterport(tmp_path / "a.h5")


def test_another_hdf5_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["measurements"] = np.arange(3)
    with pytest.raises(WeightFileError, match="no attribute layer_names"):
        read_matterport(tmp_path / "a.h5")


def test_keras_3(tmp_path):
    """As keras.Model.save_weights("x.weights.h5") writes it."""
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.zeros((1, 1, 3, 3), np.float32)
    with pytest.raises(WeightFileError, match=r"Keras 3 .* expected a file of Keras 2"):
        read_matterport(tmp_path / "a.weights.h5")


def without(file):
    del file["conv1/conv1/kernel:0"]


def group_instead(file):
    del file["conv1/conv1/kernel:0"]
    file.create_group("conv1/conv1/kernel:0")


def external_link(file):
    del file["conv1/conv1/kernel:0"]
    file["conv1/conv1/kernel:0"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(file):
    del file["conv1/conv1"]
    file["conv1/conv1"] = h5py.SoftLink("/bn_conv1")


def twice(file):
    file["conv1"].attrs["weight_names"] = np.array([b"conv1/kernel:0", b"conv1/kernel:0"])


@pytest.mark.parametrize(
    "change, message",
    [
        (without, "announces 'conv1/kernel:0'"),
        (group_instead, "is no dataset"),
        (external_link, "is a link"),
        (soft_link, "is a link"),
        (twice, "two tensors conv1/kernel"),
    ],
)
def test_damage(small, change, message):
    with pytest.raises(WeightFileError, match=message):
        read_matterport(small(change))


def attribute(name, value, where="/"):
    def change(file):
        del file[where].attrs[name]
        file[where].attrs[name] = value

    return change


def dataset(value=None, **options):
    def change(file):
        del file["conv1/conv1/kernel:0"]
        file["conv1/conv1"].create_dataset("kernel:0", data=value, **options)

    return change


def many_links(file):
    """A thousand names of a group that has a thousand names of one weight: a million tensors."""
    names = [f"w{i}" for i in range(1000)]
    group = file.create_group("many")
    group["w0"] = np.zeros(1, np.float32)
    for name in names[1:]:
        group[name] = group["w0"]
    group.attrs["weight_names"] = np.array([n.encode() for n in names])
    for i in range(1000):
        file[f"m{i}"] = group
    del file.attrs["layer_names"]
    file.attrs["layer_names"] = np.array([f"m{i}".encode() for i in range(1000)])


def loop(file):
    """A group within itself."""
    file["conv1/conv1/again"] = file["conv1"]
    file["conv1"].attrs["weight_names"] = np.array([b"conv1/again/" * 500 + b"conv1/kernel:0"])


def of_names(attribute_name):
    odd = {
        "numbers": np.arange(4),
        "one text": "conv1",
        "one of bytes": np.bytes_(b"conv1"),
        "a table": np.array([[b"conv1"]]),
        "nothing": h5py.Empty("S5"),
        "a number": 3.5,
        "fields": np.array([(1, 2.0)], "i4,f4"),
        "no letters": np.array([b"\xff\xfe"]),
        "elsewhere": np.array([b"../../etc", b"/etc/passwd", b"", b"."]),
        "links": np.array([b"conv1"], h5py.string_dtype()),
    }
    return [pytest.param(attribute_name, value, id=f"{attribute_name}: {what}") for what, value in odd.items()]


@pytest.mark.parametrize(("name", "value"), [*of_names("layer_names"), *of_names("weight_names")])
def test_names_of_other_types(small, name, value):
    where = "/" if name == "layer_names" else "conv1"
    with pytest.raises(WeightFileError, match=r"small\.h5"):
        read_matterport(small(attribute(name, value, where)))


ODD = {
    "fields": dataset(np.zeros((7, 7, 3, 64), "f4,f4")),
    "texts": dataset(np.array([b"x"])),
    "variable texts": dataset(["x", "y"], dtype=h5py.string_dtype()),
    "references": dataset(None, shape=(2,), dtype=h5py.ref_dtype),
    "lists": dataset(None, shape=(2,), dtype=h5py.vlen_dtype(np.float32)),
    "choices": dataset(np.zeros(3, "i1"), dtype=h5py.enum_dtype({"a": 0}, "i1")),
    "complex": dataset(np.zeros((7, 7, 3, 64), "c8")),
    "nothing": dataset(h5py.Empty("f4")),
    "a number": dataset(np.float32(3)),
    "no numbers": dataset(np.zeros((0, 7, 3, 64), "f4")),
    "many links": many_links,
    "a loop": loop,
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_datasets(small, kind):
    with pytest.raises(WeightFileError, match=r"small\.h5"):
        read_matterport(small(ODD[kind]))


@pytest.mark.parametrize("dtype", ["f2", ">f4", ">f8", "f8"])
def test_numbers_of_other_widths(path, tmp_path, params, dtype):
    copy_renamed(path, tmp_path / "a.h5", lambda layer, weight: weight)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["conv1/conv1/bias:0"]
        file["conv1/conv1"].create_dataset("bias:0", data=params["backbone.stem.conv.b"].astype(dtype))
    found = read_matterport(tmp_path / "a.h5")[0]["backbone.stem.conv.b"]
    assert found.dtype == ("f8" if "8" in dtype else "f4")
    np.testing.assert_array_equal(found, params["backbone.stem.conv.b"])


def test_a_network_that_is_not_there(params, tmp_path):
    """Datasets of the right shapes of which no byte is in the file: they would be filled when they are read."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        layers = by_layer(to_matterport(backbone_of(params)))
        file.attrs["layer_names"] = np.array([name.encode() for name in layers])
        for layer, weights in layers.items():
            file.create_group(layer).attrs["weight_names"] = np.array([f"{w}:0".encode() for w in weights])
            for w, a in weights.items():
                file[layer].create_dataset(f"{w}:0", a.shape, "f4", chunks=a.shape, fillvalue=1.0)
    with pytest.raises(WeightFileError, match=r"its tensors would take 94\d+ bytes, the file has \d+$"):
        read_matterport(tmp_path / "a.h5")


def test_numbers_elsewhere_or_of_another_type(path, tmp_path):
    for data, message in ((np.zeros(64, np.int32), "of type int32"), (None, "lie in another file")):
        copy_renamed(path, tmp_path / "a.h5", lambda layer, weight: weight)
        with h5py.File(tmp_path / "a.h5", "a") as file:
            del file["conv1/conv1/bias:0"]
            group = file["conv1/conv1"]
            if data is None:
                group.create_dataset("bias:0", (64,), "f4", external=[("/etc/hostname", 0, 256)])
            else:
                group["bias:0"] = data
        with pytest.raises(WeightFileError, match=message):
            read_matterport(tmp_path / "a.h5")


def test_an_announced_terabyte_is_not_read(path, tmp_path):
    copy_renamed(path, tmp_path / "a.h5", lambda layer, weight: weight)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["conv1/conv1/kernel:0"]
        file["conv1/conv1"].create_dataset("kernel:0", (10**6, 10**6), "f4", chunks=(100, 100), fillvalue=1.0)
    with pytest.raises(WeightMismatchError, match=r"backbone.stem.conv.w +\(7, 7, 3, 64\) +\(1000000, 1000000\)"):
        read_matterport(tmp_path / "a.h5")


def test_without_h5py(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(WeightFileError, match=r"need h5py: not installed; pip install 'mrcnn-np\[keras\]'"):
        read_matterport(path)
