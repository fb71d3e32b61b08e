"""What is known of a field stands in one place, and everything that asks for it asks there."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mrcnn_np
from mrcnn_np.config import DECLARATIONS, Config, fields_where, presets
from mrcnn_np.config.declare import FRAMEWORKS, Range
from mrcnn_np.network import spec
from mrcnn_np.weights.architecture import counts, lengths
from mrcnn_np.weights.manifest import PRESUMED, Manifest

PACKAGE = Path(mrcnn_np.__file__).parent
#: modules that may write down three fields in a row, and why
MAY_LIST = {
    "mrcnn_np/bench/worker.py": "the values of one task, not a list of fields",
    "mrcnn_np/onnx/support.py": "which field is followed by which file of the graph; a field in no list is refused",
    "mrcnn_np/training/freezing.py": "parts of the network, three of which are called as fields are",
    "mrcnn_np/conventions/symptoms.py": "an index in order of likelihood; test_symptoms.py holds it to the fields",
}

# --- one edit ---

NEW_FIELD = """
    novelty : cells
        Something that a framework has and the others have not. All three differ.
"""
NEW_LINE = """
    novelty: int = convention(2, Range(1, 9), matterport=5, weights="network", built_in=("torchvision",))
"""
#: what has to follow without another edit: checks, presets, the table, the switchboard, manifests, comparisons
FOLLOWS = """
from mrcnn_np import presets
from mrcnn_np.compare.torchvision.model import STRUCTURE
from mrcnn_np.config import Config
from mrcnn_np.conventions.table import flips, markdown_table
from mrcnn_np.errors import ConfigError, WeightMismatchError
from mrcnn_np.weights.manifest import Manifest

for value, expected in ((0, "positive and at most 9"), (10, "at most 9"), ("3", "int"), (True, "int")):
    try:
        presets.tiny(novelty=value)
    except ConfigError as error:
        assert str(error).startswith(f"novelty is {value!r}; expected") and expected in str(error), error
    else:
        raise AssertionError(value)
assert [presets.by_name(name).novelty for name in presets.PRESETS] == [2, 2, 5] + [2] * 6
assert "| `novelty` | 5 | 2 | 2 | *cells, in [1, 9]*. Something that" in markdown_table()
assert [f.changes for f in flips(presets.tiny(), ["novelty"])] == [{"novelty": 5}]
assert "novelty" in [f.field for f in flips(presets.tiny())]
assert STRUCTURE["novelty"] == 2
manifest = Manifest.from_config(presets.matterport(), source="here")
assert manifest.config().novelty == 5
assert Manifest.from_json(Manifest.from_config(presets.tiny(novelty=7), source="here").to_json()).config().novelty == 7
try:
    manifest.check(presets.matterport(novelty=3), "a file")
except WeightMismatchError as error:
    assert "novelty" in str(error)
else:
    raise AssertionError("the manifest does not look at it")
old = presets.tiny().to_dict()
del old["novelty"]
assert Config.from_dict(old) == presets.tiny()
"""


def test_a_new_field_is_one_edit(tmp_path):
    """A copy of the package gets a field, in one file; nothing else is touched."""
    shutil.copytree(PACKAGE, tmp_path / "mrcnn_np", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "mrcnn_np" / "config" / "fields.py"
    text = path.read_text()
    group = text.index("class RoiFields:")
    documented = text.index('    """\n', text.index("Attributes", group))
    declared = text.index("    roi_level_rounding:", documented)
    text = (
        text[:documented] + NEW_FIELD.lstrip("\n") + text[documented:declared] + NEW_LINE.lstrip("\n") + text[declared:]
    )
    path.write_text(text)
    places = os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])
    done = subprocess.run(
        [sys.executable, "-c", FOLLOWS], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": places},
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def field_names(node):
    """Names of fields that a tuple, list, set or the keys of a dict hold, or the first entries of their entries."""
    elements = getattr(node, "elts", None) or [key for key in getattr(node, "keys", []) if key is not None]
    firsts = [e.elts[0] if isinstance(e, (ast.Tuple, ast.List)) and e.elts else e for e in elements]
    return [e.value for e in firsts if isinstance(e, ast.Constant) and e.value in DECLARATIONS]


def test_no_other_module_lists_fields():
    found = []
    for path in [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "kernels").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Tuple, ast.List, ast.Set, ast.Dict)) and len(field_names(node)) >= 3:
                found.append((path.relative_to(PACKAGE.parent).as_posix(), node.lineno, field_names(node)))
    assert [row for row in found if row[0] not in MAY_LIST] == []


def test_the_search_for_lists_finds_them():
    for text in ("('steps', 'flip', 'momentum')", "{'steps': 1, 'flip': 2, 'momentum': 3}",
                 "[('steps', 1), ('flip', 2), ('momentum', 3)]", "{'steps', 'flip', 'momentum'}"):  # fmt: skip
        assert field_names(ast.parse(text, mode="eval").body).__len__() == 3
    assert len(field_names(ast.parse("('steps', 'flip', 'other')", mode="eval").body)) == 2


# --- declarations make sense ---


def test_every_number_has_a_range_and_its_default_and_answers_lie_in_it():
    for name, declaration in DECLARATIONS.items():
        text = str(Config.__dataclass_fields__[name].type)
        assert bool(re.search(r"\b(int|float)\b", text)) == (declaration.range is not None), name
        for preset in presets.PRESETS:  # that they exist shows that they lie within
            assert hasattr(presets.by_name(preset), name)


def test_answers_differ_from_the_default():
    for name, declaration in DECLARATIONS.items():
        default = Config.__dataclass_fields__[name].default
        for framework, answer in declaration.answers.items():
            assert framework in FRAMEWORKS and answer != default, name
        for value in declaration.others:
            assert value not in [getattr(presets.by_name(f), name) for f in FRAMEWORKS], name


def test_what_goes_together_exists():
    for name, declaration in DECLARATIONS.items():
        assert declaration.together in ("", *DECLARATIONS) and declaration.together != name
        assert declaration.needs in ("", *DECLARATIONS) and declaration.needs != name
        assert set(declaration.built_in) <= set(FRAMEWORKS)
        assert not declaration.weights or declaration.kind != "schedule"


@pytest.mark.parametrize("keypoints", [0, 17])
@pytest.mark.parametrize("name", list(presets.PRESETS))
def test_tensors_show_what_they_are_declared_to_show(name, keypoints):
    config = presets.by_name(name)
    keypoints = 0 if config.box_head == "c5" else keypoints
    config = config.replace(keypoints=keypoints)
    shapes = {tensor: s.shape for tensor, s in spec(config).items()}
    found = lengths(shapes) | counts(shapes)
    if config.box_head != "conv_fc":  # the convolutions of "conv" have the same names, and are two
        found.pop("box_head_convs", None)
    assert found == {field: getattr(config, field) for field in found}
    shown = set(fields_where(lambda d: bool(d.shown_by or d.counted_by)))
    absent = {"box_head_convs"}  # and what belongs to parts that the network does not have
    absent |= {"fpn_channels"} if config.neck == "none" else set()
    absent |= {"box_head_channels"} if config.box_head == "c5" else set()
    absent |= {"mask_head_convs"} if not config.mask_branch or config.mask_head_convs == 0 else set()
    absent |= {"mask_head_channels"} if not config.mask_branch else set()
    absent |= {f for f, d in DECLARATIONS.items() if "keypoints" in (f, d.needs) and not keypoints}
    assert shown - set(found) <= absent


def test_a_length_that_no_field_can_have_is_left_to_the_table_of_tensors():
    shapes = {"box_head.class.b": (10**9,), "rpn.conv.b": (0,), "fpn.lateral2.w": (1, 1, 8, 16), "rpn.conv1000.w": ()}
    assert lengths(shapes) == {"fpn_channels": 16} and counts(shapes) == {
        "rpn_convs": 4
    }  # no more than there are tensors


def test_manifests_keep_what_weights_depend_on():
    assert set(PRESUMED) == {
        "channel_order", "pixel_scale", "pixel_mean", "pixel_std", "stride_in_1x1", "bn_eps", "stem_pool_padding",
    }  # fmt: skip
    config = presets.torchvision()
    manifest = Manifest.from_config(config, source="here")
    for name in fields_where(lambda d: bool(d.weights)):
        choices = re.findall(r"'(\w+)'", str(Config.__dataclass_fields__[name].type).replace('"', "'"))
        value = getattr(config, name)
        if isinstance(value, bool):
            other = not value
        elif choices:
            other = next(c for c in choices if c != value)
        elif isinstance(value, tuple):
            other = tuple(v / 2 for v in value)
        else:
            other = "resnet18" if isinstance(value, str) else value + (1 if isinstance(value, int) else 0.5)
        changes = {name: other} | ({"anchor_strides": (16,)} if name == "neck" else {})
        assert [row[0] for row in manifest.differences(config.replace(**changes))] == [name]
    free = config.replace(detection_nms_iou=0.4, image_min_size=600, batch_size=7, roi_sampling_ratio=0)
    assert manifest.differences(free) == []


# --- ranges ---

RANGES = [
    (Range(0, 1), "in [0, 1]", "in [0, 1], or none", "[0, 1]"),
    (Range(0, 1, above=True), "in (0, 1]", "in (0, 1], or none", "(0, 1]"),
    (Range(1, 4096), "positive and at most 4096", "positive, or none, and at most 4096", "[1, 4096]"),
    (Range(0, 1e12, above=True), "positive and at most 1e+12", "positive, or none, and at most 1e+12", "(0, 1e+12]"),
    (Range(0, 32), "0 or more and at most 32", "0 or more, or none, and at most 32", "[0, 32]"),
    (Range(2, 5), "at least 2 and at most 5", "at least 2, or none, and at most 5", "[2, 5]"),
    (Range(-10, 10), "at least -10 and at most 10", "at least -10, or none, and at most 10", "[-10, 10]"),
]  # fmt: skip


@pytest.mark.parametrize("range_, words, or_none, interval", RANGES, ids=[row[3] for row in RANGES])
def test_ranges_in_words(range_, words, or_none, interval):
    assert (range_.expected(), range_.expected(or_none=True), str(range_)) == (words, or_none, interval)


def test_what_lies_in_a_range():
    assert 0 in Range(0, 1) and 1 in Range(0, 1) and 0 not in Range(0, 1, above=True)
    assert 5e-324 in Range(0, 1, above=True) and 1.0000001 not in Range(0, 1) and -1 not in Range(0, 1)
    assert float("nan") not in Range(0, 1) and float("inf") not in Range(0, 1) and 10**400 not in Range(0, 1)
