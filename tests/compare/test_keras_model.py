"""matterport's Mask R-CNN, assembled from Keras layers and TensorFlow's operations, against our matterport preset.

One thing cannot be compared bit by bit. ``tf.image.crop_and_resize`` takes 0 for what lies outside the map, however
little. A RoI that ends on the canvas's last row or column samples exactly there, and whether round-off puts these
samples inside or outside is a coin flip, in TensorFlow itself: a difference of 1e-7 in the RoI can turn a row of
features to 0. Such RoIs are told apart below.
"""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="comparison needs TensorFlow: pip install mrcnn-np[compare-tf]")
h5py = pytest.importorskip("h5py", reason="Keras's files need h5py: pip install mrcnn-np[keras]")

import keras  # noqa: E402
from keras_case import MARKS, TEST_TIME, error  # noqa: E402

from mrcnn_np import MaskRCNN  # noqa: E402
from mrcnn_np.compare.comparison import compare  # noqa: E402
from mrcnn_np.compare.keras import model as keras_model  # noqa: E402
from mrcnn_np.compare.keras import network as keras_network  # noqa: E402
from mrcnn_np.compare.keras import regions as keras_regions  # noqa: E402
from mrcnn_np.compare.keras.data import mold, resize, unmold  # noqa: E402
from mrcnn_np.compare.rounding import FollowTheirRounding  # noqa: E402
from mrcnn_np.compare.run import compare_with  # noqa: E402
from mrcnn_np.compare.trace import GIVEN, trace_ours  # noqa: E402
from mrcnn_np.detections import paste_masks  # noqa: E402
from mrcnn_np.errors import ConfigError, WeightFileError  # noqa: E402
from mrcnn_np.molding import mold_image  # noqa: E402
from mrcnn_np.ops.crop_and_resize import crop_and_resize  # noqa: E402
from mrcnn_np.synthetic import params_that_detect, picture  # noqa: E402
from mrcnn_np.weights.formats.keras_h5 import read_matterport, write_matterport  # noqa: E402

pytestmark = MARKS


# --- inference ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights():
    return {b: params_that_detect(TEST_TIME.replace(backbone=b)) for b in ("resnet50", "resnet101")}


def run_both(params, config, image):
    """Trace both sides; ours goes on with theirs at each stage, and with theirs in the rows that rounding decides."""
    theirs = keras_model.trace(params, config, image)
    follow = FollowTheirRounding(theirs, keras_model.left_to_rounding(theirs), 1e-4)
    given = {name: theirs[name] for name in GIVEN}
    return trace_ours(MaskRCNN(config, params), image, given=given, follow=follow), theirs


@pytest.mark.parametrize(
    "backbone, size, shape",
    [("resnet50", 128, (100, 150)), ("resnet101", 128, (64, 48)), ("resnet50", 384, (384, 350))],
)
def test_every_tensor_of_a_detection(weights, backbone, size, shape):
    """From the molded image to the pasted masks.

    Measured: 1e-5 at most, of rows of one RoI 3e-5; one of the 239 proposals that end on the last pixel flips a coin.
    """
    config = TEST_TIME.replace(backbone=backbone, image_min_size=size, image_max_size=size)
    ours, theirs = run_both(weights[backbone], config, picture(shape, 4))
    assert list(ours) == list(theirs)
    np.testing.assert_array_equal(ours["molded"], theirs["molded"])
    per_roi = {"proposals": ("box_features", "class_logits", "box_deltas")}
    per_roi["detection_boxes"] = ("mask_features", "mask_logits", "mask_probabilities")
    by_row = {name for names in per_roi.values() for name in names}
    for name in theirs:
        if name not in by_row and name not in ("masks", "proposals", "proposal_scores"):
            assert error(ours[name], theirs[name]) <= 1e-4, name
    for boxes, names in per_roi.items():
        at_the_end = (theirs[boxes][:, 2:] > size - 0.01).any(axis=1)
        assert (~at_the_end).sum() > 5 and len(theirs[boxes]) >= 10
        for name in names:
            off = np.array([error(a, b) for a, b in zip(ours[name], theirs[name])])
            assert off[~at_the_end].max() <= 1e-4, name
            assert (off[at_the_end] > 1e-4).mean() <= 0.2 if at_the_end.any() else True, name
    np.testing.assert_array_equal(ours["boxes"], theirs["boxes"])
    assert theirs["masks"].any() and len(set(theirs["detection_classes"])) > 1
    if size == 384:
        sides = np.sqrt(np.prod(theirs["proposals"][:, 2:] - theirs["proposals"][:, :2], axis=1))
        levels = 4 + np.round(np.log2(sides / 224))
        assert set(np.clip(levels, 2, 5)) == {2, 3, 4, 5}  # every level was read


@pytest.mark.parametrize(
    ("size", "seed", "classes"),
    [
        (128, 3, 7),
        (192, 0, 5),  # two of the detections read the map's very edge, and see another side of it
        (64, 3, 3),  # 230 proposals of 300: matterport would fill up with zeros
    ],
)
def test_proposals_and_detections_of_its_own(size, seed, classes):
    """Nothing is handed over: our proposals, ranked and suppressed, are theirs, and so is what becomes of them.

    But for the rows that rounding decides: 4 to 9 of 90 to 240, of the masks' 2 of 6. Measured in all others: 1e-5.
    """
    config = TEST_TIME.replace(image_min_size=size, image_max_size=size, num_classes=classes, detections_per_image=100)
    result = compare_with("keras", picture((240, 320), seed), config=config, seed=seed)
    assert result.agree, str(result)
    lost = {row.name for row in result.rows if "paired" in row.note}
    assert not lost and len(result.theirs["boxes"]) >= 10
    assert {row.name for row in result.rows if "rounding decides" in row.note} <= {"box_features", "mask_features"}


def test_detections_that_differ_are_found(weights):
    """What rounding is forgiven forgives nothing else."""
    image, params = picture((100, 150), 3), weights["resnet50"]
    for changes in ({"detection_nms_iou": 0.4}, {"head_box_std": (0.1, 0.1, 0.2, 0.201)}):
        result = compare_with("keras", image, config=TEST_TIME, params=params, only_ours=changes)
        assert result.first.name == "detection_boxes", str(result)


def test_few_rows_may_be_left_to_round_off():
    theirs = {"molded": np.zeros((1, 64, 64, 3), np.float32), "box_features": np.ones((50, 7), np.float32)}
    left_to_rounding = {"box_features": np.arange(50) < 40}
    for differing, within in (([], True), ([3, 4], True), (range(30), False), ([45], False)):
        ours = {name: a.copy() for name, a in theirs.items()}
        ours["box_features"][list(differing), 2] = 0
        row = compare(ours, theirs, teacher_forced=True, left_to_rounding=left_to_rounding).rows[1]
        assert row.within is within
        assert ("without 2 of 40 rows" in row.note) == (len(differing) == 2)


def test_masks_are_pasted_alike():
    """Given the same boxes and masks. Measured: no pixel differs."""
    rng = np.random.default_rng(0)
    masks = rng.random((20, 28, 28)).astype(np.float32)
    canvas, shape = (128, 128), (250, 190)
    molded = mold(picture(shape), TEST_TIME)
    corners = rng.uniform([0, 15], [60, 60], (20, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.3, 50, (20, 2))], axis=1)
    detections = np.concatenate([keras_regions.normalise(boxes, canvas), np.ones((20, 2))], axis=1)
    final, pasted = unmold(detections, masks, shape, canvas, molded.window)
    _, molding = mold_image(picture(shape), TEST_TIME)
    ours = np.round(molding.unmold_boxes(boxes, "centres"))
    np.testing.assert_array_equal(ours, final)
    found = paste_masks(masks, ours, shape, TEST_TIME)
    assert (found != pasted).sum() <= 1e-4 * pasted.sum()


def test_a_field_of_another_dialect_shows(weights):
    """The comparison can fail: torchvision's way of measuring boxes moves the proposals."""
    config, params = TEST_TIME, weights["resnet50"]
    theirs = keras_model.trace(params, config, picture((50, 75), 3))
    for changes, name in (({"box_frame": "edges"}, "proposals"), ({"resize_border": "edge"}, "molded")):
        ours = trace_ours(MaskRCNN(config.replace(**changes), params), picture((50, 75), 3))
        assert compare(ours, theirs).first.name == name


# --- weights --------------------------------------------------------------------------------------------------------


def test_keras_reads_and_writes_what_we_do(weights, tmp_path):
    """Keras's own code for files of Keras 2 fills a model by name from our file, and we read what it writes."""
    from keras.src.legacy.saving import legacy_h5_format

    params = weights["resnet50"]
    network = keras_network.Network(params, TEST_TIME)
    x = keras.Input((64, 64, 3))
    y = keras.layers.Conv2D(64, 7, name="conv1")(x)
    model = keras.Model(x, keras.layers.BatchNormalization(name="bn_conv1")(y))
    write_matterport(tmp_path / "ours.h5", params)
    with h5py.File(tmp_path / "ours.h5") as file:
        legacy_h5_format.load_weights_from_hdf5_group_by_name(file, model)
    np.testing.assert_array_equal(model.get_layer("conv1").kernel, params["backbone.stem.conv.w"])
    np.testing.assert_array_equal(model.get_layer("bn_conv1").moving_variance, params["backbone.stem.bn.var"])

    features = network.pyramid(network.backbone(tf.zeros([1, 64, 64, 3])))
    network.rpn(features[0])
    network.classifier(tf.zeros([1, 7, 7, 256]))
    network.mask(tf.zeros([1, 14, 14, 256]))
    whole = keras.Sequential(list(network.layers.values()))
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, whole)
    found, manifest = read_matterport(tmp_path / "theirs.h5")
    for name in ("ours.h5", "theirs.h5"):
        (tmp_path / name).unlink()  # 180 MB each, which pytest would keep
    assert manifest.num_classes == 7 and manifest.backbone == "resnet50"
    for name, p in params.items():
        np.testing.assert_array_equal(found[name], p, err_msg=name)

    model.save_weights(tmp_path / "new.weights.h5")
    with pytest.raises(WeightFileError, match="Keras 3"):
        read_matterport(tmp_path / "new.weights.h5")


def test_crop_and_resize_is_tensorflows():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 9, 7, 3)).astype(np.float32)
    boxes = rng.uniform(-0.2, 1.2, (30, 4)).astype(np.float32)
    index = rng.integers(0, 2, 30)
    theirs = tf.image.crop_and_resize(image, boxes, index, [5, 6]).numpy()
    np.testing.assert_allclose(crop_and_resize(image, boxes, index, output_size=(5, 6))[0], theirs, atol=2e-6)


# --- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"backbone": "resnet18"}, "resnet50 and resnet101"),
        ({"image_max_size": 160}, "multiple of 64"),
        ({"box_head": "fc"}, "has 'conv' only"),
    ],
)
def test_what_matterport_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=message):
        keras_model.trace({}, TEST_TIME.replace(**changes), picture((64, 64)))


def test_resize_by_hand():
    np.testing.assert_allclose(resize(np.array([[0.0, 4.0]]), (1, 4)), [[0, 1, 3, 3]])  # 4 * .75 at the edge
    np.testing.assert_allclose(resize(np.full((2, 2), 5.0), (4, 4)), 5)  # not below the smallest value
