"""What a notebook tries first: one image without a list, a path, a seed, a folder; and messages for wrong guesses."""

import json
import warnings

import numpy as np
import pytest
from nets import make_sample, small_config
from PIL import Image

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.boxes import boxes_from_xyxy, boxes_to_xyxy
from mrcnn_np.compare.trace import trace_ours
from mrcnn_np.config import Config
from mrcnn_np.data.images import read_image
from mrcnn_np.data.notes import Notes
from mrcnn_np.data.rle import decode
from mrcnn_np.data.segmentation import from_coco
from mrcnn_np.detections import Detections
from mrcnn_np.errors import ConfigError, DataError, DataWarning, WeightFileError
from mrcnn_np.molding import as_images, make_batch
from mrcnn_np.proposals import propose
from mrcnn_np.training.checkpoint import Checkpoint, save_checkpoint

NAMES = ("background", "a", "b", "c")


@pytest.fixture(scope="module")
def model():
    return MaskRCNN(small_config(detection_score_threshold=0.0, detections_per_image=5), rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def image():
    return make_sample(np.random.default_rng(1)).image


def test_detect_takes_one_image_or_several_of_any_kind(model, image, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    (wanted,) = model.detect([image])
    assert len(wanted.boxes) == 5
    for given in (image, path, str(path), Image.fromarray(image), [path], (image,), image[None]):
        (found,) = model.detect(given)
        np.testing.assert_array_equal(found.masks, wanted.masks)
    assert len(model.detect([image, path, Image.fromarray(image)])) == 3


@pytest.fixture(scope="module")
def found(model, image):
    named = MaskRCNN(model.config, model.params, class_names=("background", "a", "<b>", "c"))
    return named.detect(image)[0]


def test_detections_are_counted_indexed_and_named(model, image, found):
    assert len(found) == 5 and found.image is image
    assert found.names == [("background", "a", "<b>", "c")[k] for k in found.class_ids]
    first, last = found[0], found[-1]
    assert first.name == found.names[0] and first.score == found.scores[0] and first.class_id == found.class_ids[0]
    np.testing.assert_array_equal(last.box, found.boxes[4])
    np.testing.assert_array_equal(last.mask, found.masks[4])
    assert [one.score for one in found] == found.scores.tolist()
    for key, kept in ((slice(1, 3), [1, 2]), ([4, 0], [4, 0]), (found.scores >= found.scores[1], [0, 1]), ([], [])):
        part = found[key]
        np.testing.assert_array_equal(part.boxes, found.boxes[kept])
        assert part.masks.shape == (len(kept), 64, 64) and part.class_names == found.class_names
    with pytest.raises(IndexError):
        found[5]
    assert model.detect(image)[0].names[0] == f"class {found.class_ids[0]}"  # of a model without names
    assert len(found.above(2.0)) == 0 and found.above(2.0).image is image
    renumbered = found.of_classes(np.array([0, 2, 1, 3]))
    assert renumbered.names[0].startswith("class ")  # the names went with the old numbers


def test_detections_of_some_classes(model, image, found):
    name = found.names[0]
    part = found.only(name)
    assert part.names == [name] * found.names.count(name) and part.scores[0] == found.scores[0]
    every = found.only("a", "<b>", "c")
    np.testing.assert_array_equal(every.boxes, found.boxes)
    assert len(found.only()) == 0 and len(found[:0].only("a")) == 0 and found[:0].only("a").image is image
    with pytest.raises(ValueError, match=r"there is no class '<b'; expected one of a, <b>, c; did you mean '<b>'"):
        found.only("a", "<b")
    with pytest.raises(ValueError, match="there is no class 'background'; expected one of a"):
        found.only("background")
    nameless = model.detect(image)[0]
    assert len(nameless.only(nameless.names[0])) == nameless.names.count(nameless.names[0])
    with pytest.raises(ValueError, match="no class 'cat', as no names are known; expected such as 'class 1'"):
        nameless.only("cat")
    for given in ("a", ["a", "c"]):
        with pytest.raises(TypeError, match=r"expected the new number of each class.*found\.only\(NAME, \.\.\.\)"):
            found.of_classes(given)


def test_detections_go_to_coco_and_back(model, found, tmp_path):
    records = json.loads(json.dumps(found.to_coco(7, category_ids=(0, 11, 12, 13))))
    assert [r["category_id"] - 10 for r in records] == found.class_ids.tolist() and records[0]["image_id"] == 7
    y1, x1, y2, x2 = (float(v) for v in found.boxes[0])
    assert records[0]["bbox"] == [x1, y1, x2 - x1, y2 - y1]
    np.testing.assert_array_equal(decode(from_coco(records[0]["segmentation"], (64, 64))), found.masks[0])
    assert found.to_coco()[0]["category_id"] == found.class_ids[0] and found[:0].to_coco() == []
    with pytest.raises(ValueError, match="category_ids has 1 entries; expected one for each class up to"):
        found.to_coco(category_ids=(0,))


def test_detections_are_drawn(found, image, tmp_path):
    picture = found.plot(tmp_path / "a.png", size=200)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png").convert("RGB")), np.asarray(picture))
    assert not np.array_equal(picture, found[:0].plot(size=200))  # the image alone
    assert not np.array_equal(picture, found.plot(image=255 - image, size=200))
    alone = Detections(found.boxes, found.class_ids, found.scores, found.masks)
    assert alone.plot(size=200).size == picture.size  # over grey
    page = found._repr_html_()
    assert page.count("<tr>") == 6 and "data:image/png;base64," in page
    assert "<b>" not in page and ("&lt;b&gt;" in page) == ("<b>" in found.names)
    assert found[:0]._repr_html_().count("<tr>") == 1
    many = found[[0] * 25]._repr_html_()
    assert many.count("<tr>") == 21 and "and 5 more" in many


def test_a_trace_has_every_tensor(model, image, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    trace = model.trace(path)
    assert next(iter(trace)) == "molded" and list(trace)[-1] == "masks" and {"c5", "p6", "rpn_logits.p3"} <= set(trace)
    for name, x in trace_ours(model, image).items():
        np.testing.assert_array_equal(trace[name], x)
    with pytest.raises(ValueError, match="given 2 images; expected one"):
        model.trace([image, image])


def test_reprs_are_short(model, image, found):
    sample = make_sample(np.random.default_rng(0), objects=3)
    assert repr(sample) == "Sample('a', image 64 x 64, 3 objects of classes 1 2 3)"
    assert repr(make_sample(np.random.default_rng(0), objects=0)) == "Sample('a', image 64 x 64, 0 objects)"
    batch = make_batch([sample, make_sample(np.random.default_rng(0), objects=0)], model.config)
    assert repr(batch) == "Batch(2 images of 64 x 64 float32, objects in each: 3 0)"
    assert repr(presets.tiny()) == "Config(tiny, num_classes=4)"
    assert repr(presets.torchvision(5, bn_eps=0.0)) == "Config(torchvision, num_classes=5, bn_eps=0.0)"
    assert len(repr(Config("mine", 2))) < 100
    assert repr(found).startswith(f"Detections(5: {found.names[0]} {found.scores[0]:.2f}, ")
    assert repr(found).endswith("; image 64 x 64)") and repr(found[:0]) == "Detections(0; image 64 x 64)"
    assert repr(found[0]).startswith(f"Detection({found.names[0]} ") and repr(found[0]).endswith(" pixels)")


def test_pictures_of_a_microscope(model, tmp_path):
    """Grey of 8 and 16 bits, as array, Pillow image and file: the same pixels for the network."""
    grey = np.random.default_rng(3).integers(0, 256, (64, 64), np.uint8)
    twelve = grey.astype(np.uint16) * 16
    Image.fromarray(twelve).save(tmp_path / "twelve.png")
    alpha = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    for given in (grey, grey[:, :, None], Image.fromarray(grey), alpha, Image.fromarray(alpha), [grey], grey > 127):
        (seen,) = as_images(given)
        expected = grey if np.asarray(given).dtype != bool else 255 * (grey > 127)
        np.testing.assert_array_equal(seen, np.repeat(np.asarray(expected, np.uint8)[:, :, None], 3, axis=2))
    for given in (twelve, Image.fromarray(twelve), tmp_path / "twelve.png"):
        with pytest.warns(DataWarning, match="16-bit grey is divided"):
            (seen,) = as_images(given)
        np.testing.assert_array_equal(seen, read_image(tmp_path / "twelve.png", notes=Notes(quiet=True)))
    with pytest.raises(DataError, match="image 1: holds floating-point values"):
        list(as_images([grey, Image.fromarray(np.zeros((4, 4), np.float32))]))
    assert len(model.detect([grey, grey])) == 2


def test_wrong_images_are_told(model, image, tmp_path):
    for given, kind, message in (
        (image.transpose(2, 0, 1), ValueError, r"shape \(3, 64, 64\).*looks like \(3, H, W\)"),
        ([image[None]], ValueError, "this is a batch"),
        (image / 255, ValueError, "float64.*whole numbers from 0 to 255"),
        ([3], TypeError, "image 0 is int; expected an array"),
        (tmp_path / "missing.png", DataError, "missing.png.*does not exist"),
    ):
        with pytest.raises(kind, match=message):
            model.detect(given)


def test_losses_take_a_seed(model, image):
    batch = make_batch([make_sample(np.random.default_rng(0))], model.config)
    frozen = MaskRCNN(model.config.replace(bn_mode="frozen"), model.params)
    assert frozen.losses(batch, 0)[0] == frozen.losses(batch, np.random.default_rng(0))[0]
    with pytest.raises(TypeError, match=r"rng is NoneType; expected a numpy\.random\.Generator"):
        frozen.losses(batch, None)
    assert len(repr(frozen.losses(batch, 0)[1])) < 400


def test_propose_wants_one_image(model):
    anchors = [np.zeros((6, 4))]
    with pytest.raises(ValueError, match=r"logits have shape \(1, 6\).*expected \(6,\) and \(6, 4\)"):
        propose(np.zeros((1, 6)), np.zeros((1, 6, 4)), anchors, (0, 0, 9, 9), model.config, training=False)


def test_a_model_says_what_it_is(model):
    assert repr(model).startswith("MaskRCNN(tiny, tiny, ") and repr(model).endswith(" parameters, 4 classes)")
    with pytest.raises(ConfigError, match="class_names has 2 names; expected 4"):
        MaskRCNN(model.config, model.params, class_names=("background", "a"))


def test_load_takes_a_run_or_its_checkpoint(model, image, tmp_path):
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    save_checkpoint(run / "checkpoint.safetensors", Checkpoint(3, 0, model.config, NAMES, model.params, {}))
    for path in (run, str(run), run / "checkpoint.safetensors"):
        loaded = MaskRCNN.load(path, detections_per_image=2)
        assert loaded.class_names == NAMES and loaded.config == model.config.replace(detections_per_image=2)
        assert len(loaded.detect(image)[0].boxes) == 2
    assert MaskRCNN.load(run, class_names=["background", "x", "y", "z"]).class_names[1] == "x"
    with pytest.raises(WeightFileError, match=r"runs holds no checkpoint\.safetensors.*the runs in .*runs are first"):
        MaskRCNN.load(tmp_path / "runs")
    with pytest.raises(WeightFileError, match=f"cannot read .*frst: No such file.*; did you mean '{run}'"):
        MaskRCNN.load(tmp_path / "runs" / "frst")
    with pytest.raises(
        WeightFileError, match=f"cannot read .*task: No such file.*; the runs in {run.parent} are first$"
    ):
        MaskRCNN.load(tmp_path / "runs" / "task")


def test_boxes_in_the_other_order():
    boxes = np.array([[1.0, 2, 30, 40]])
    assert boxes_from_xyxy(boxes).tolist() == [[2, 1, 40, 30]] and boxes_to_xyxy(boxes_from_xyxy(boxes)).tolist() == [
        [1, 2, 30, 40]
    ]


def test_boxes_in_the_other_order_are_warned_of(model):
    sample = make_sample(np.random.default_rng(0), size=(64, 48), objects=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_batch([sample], model.config)
        make_batch([make_sample(np.random.default_rng(0), objects=0)], model.config)
    with pytest.warns(UserWarning, match=r"image a: gt_boxes fit gt_masks only when read as \(x1, y1, x2, y2\)"):
        make_batch([sample.replace(gt_boxes=boxes_to_xyxy(sample.gt_boxes))], model.config)


@pytest.mark.parametrize("given", [3, None, 2.5, object(), np.float32(1)])
def test_what_is_no_image_and_not_several(model, given):
    with pytest.raises(TypeError, match=r"images is .*; expected an array \(H, W, 3\) of uint8, a grey one"):
        model.detect(given)
    with pytest.raises(TypeError, match="image 0 is "):
        model.detect([given])
