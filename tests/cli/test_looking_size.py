"""At what size ``detect`` looks: ``--size``, and what is said of pictures at another scale than in training."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mrcnn_np import MaskRCNN, presets
from mrcnn_np.cli.looking_size import Scales, scale_in_training, scale_of, typical_scale
from mrcnn_np.cli.main import main
from mrcnn_np.data.sample import without_objects
from mrcnn_np.detections import Detections
from mrcnn_np.errors import DataError

SQUARE, EDGE = presets.small(num_classes=2), presets.torchvision(num_classes=2)


class Sizes:
    """A data set of empty images of some sizes; None cannot be read."""

    class_names = ("background", "thing")

    def __init__(self, *shapes):
        self.shapes, self.read = shapes, []
        self.ids = tuple(map(str, range(len(shapes))))

    def __len__(self):
        return len(self.shapes)

    def load(self, index):
        self.read.append(index)
        if self.shapes[index] is None:
            raise DataError("cannot be read")
        return without_objects(np.zeros((*self.shapes[index], 3), np.uint8))


def test_scales():
    assert scale_of((256, 256), SQUARE) == 1 and scale_of((1024, 512), SQUARE) == 0.25
    assert scale_of((800, 1000), EDGE) == 1 and scale_of((400, 2666), EDGE) == pytest.approx(0.5, rel=1e-3)
    assert typical_scale(Sizes((256, 256), (512, 512), None, (128, 64)), SQUARE) == 1
    assert typical_scale(Sizes(None, None), SQUARE) is None
    many = Sizes(*([(512, 512)] * 1000))
    assert typical_scale(many, SQUARE) == 0.5 and len(many.read) == 20


def test_what_is_far_from_training():
    scales = Scales(SQUARE, 1.0)
    for shape in ((256, 256), (440, 300), (150, 200)):
        scales.add("near.png", shape)
    assert scales.describe() == []
    for name, shape in (("slide.png", (4096, 3000)), ("b.png", (1000, 600)), ("tiny.png", (100, 90))):
        scales.add(name, shape)
    smaller, larger = scales.describe()
    assert smaller.startswith(
        "2 pictures are looked at with objects smaller than those of the training pictures: slide.png, b.png. Of "
        "slide.png, 3000 x 4096 pixels, all is 16.0 times smaller;"
    )
    assert "--size 4096 looks" in smaller
    assert "1 picture is looked at" in larger and "2.6 times larger" in larger and "--size 96 looks" in larger
    silent = Scales(SQUARE, None)
    silent.add("slide.png", (4096, 3000))
    assert silent.describe() == []
    double = Scales(SQUARE, 1.0)
    double.add("double.png", (512, 512))  # exactly twice as large counts
    assert "all is 2.0 times smaller" in double.describe()[0]
    edge = Scales(EDGE, 1.0)
    edge.add("wide.png", (2000, 3000))
    assert "--size 2000 looks" in edge.describe()[0]


@pytest.mark.parametrize(
    "text", ["{}", '{"scale": null}', '{"scale": 0}', '{"scale": "x"}', '{"scale": NaN}', "[", "3"]
)
def test_summaries_without_a_scale(tmp_path, text):
    assert scale_in_training(tmp_path) is None
    (tmp_path / "summary.json").write_text(text)
    assert scale_in_training(tmp_path) is None


@pytest.fixture
def asked(monkeypatch):
    """Configurations and shapes with which a network that finds nothing was asked."""
    seen = []

    def detect(self, images):
        seen.append((self.config, images[0].shape))
        none = np.zeros(0)
        return [Detections(np.zeros((0, 4)), none.astype(int), none, np.zeros((0, *images[0].shape[:2]), bool))]

    monkeypatch.setattr(MaskRCNN, "detect", detect)
    return seen


def test_the_command(trained, asked, tmp_path, capsys):
    side = json.loads((trained / "config.json").read_text())["image_max_size"]
    scale = json.loads((trained / "summary.json").read_text())["scale"]
    assert scale == scale_in_training(trained)
    large = max(32, round(4 * side / scale / 32) * 32)
    picture = tmp_path / "slide.png"
    Image.new("RGB", (large, large), (90, 20, 20)).save(picture)
    command = ["detect", "--run", str(trained), str(picture), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(command) == 0
    said = capsys.readouterr().err
    assert "warning: 1 picture is looked at with objects smaller" in said and f"{picture}. Of " in said
    size = int(said.partition("--size ")[2].split()[0])
    assert main([*command, "--size", str(size), "--config", "detections_per_image=7"]) == 0
    assert "looked at with objects" not in capsys.readouterr().err
    # a --size that is far off is told, too, whatever names the network, and of a training that is not finished
    unfinished = tmp_path / "unfinished"
    shutil.copytree(trained, unfinished)
    (unfinished / "summary.json").unlink()
    assert scale_in_training(unfinished) == scale
    for option, name in (("--run", trained), ("--weights", trained), ("--run", unfinished), ("--weights", unfinished)):
        command[1:3] = [option, str(name)]
        assert main([*command, "--size", str(2 * size)]) == 0
        assert f"2.0 times larger; if its objects have as many pixels as they had there, --size {size} looks" in (
            capsys.readouterr().err
        )
    before, after = asked[0][0], asked[1][0]
    assert after.image_max_size == after.image_min_size == size and after.detections_per_image == 7
    times = (size / side) ** 2
    assert after.proposals_post_nms_test == round(times * before.proposals_post_nms_test)
    assert main([*command, "--size", "100"]) == 2
    assert "size is 100; expected a multiple of 32, such as 96 or 128" in capsys.readouterr().err


def test_fields_that_fit_only_together(trained, asked, tmp_path, capsys):
    picture = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(picture)
    fields = ["--config", "image_min_size=1024", "--config", "image_max_size=1024"]
    command = ["detect", "--run", str(trained), str(picture), "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*command, *fields]) == 0 and asked[0][0].image_min_size == 1024
    assert main([*command, *fields, "--config", "rpn_channels=24"]) == 2
    assert "changes the parameters: rpn.conv.w" in capsys.readouterr().err


def test_a_dark_picture_of_16_bits(trained, asked, tmp_path, capsys):
    """Dim objects, and one hot pixel that decides the scale."""
    pixels = np.full((64, 64), 40, np.uint16)
    pixels[3, 3] = 60000
    Image.fromarray(pixels).save(tmp_path / "dim.png")
    command = ["detect", "--run", str(trained), str(tmp_path / "dim.png"), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(command) == 0
    assert "dim.png: holds 16 bits and is nearly black as it is read" in capsys.readouterr().err
