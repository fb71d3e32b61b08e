"""Headers with a right checksum and a wrong shape: a message that names the file, by every way in."""

import copy
import json
import zlib

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from mrcnn_np import presets
from mrcnn_np.cli.detect import load_model
from mrcnn_np.cli.main import main
from mrcnn_np.data import generate
from mrcnn_np.errors import CheckpointError, WeightFileError
from mrcnn_np.network import initialise
from mrcnn_np.params import trainable
from mrcnn_np.training.checkpoint import KEY, Checkpoint, load_checkpoint, save_checkpoint
from mrcnn_np.weights.load import load_weights, save_weights
from mrcnn_np.weights.manifest import KEY as MANIFEST
from mrcnn_np.weights.manifest import Manifest
from mrcnn_np.weights.transfer import read_start

SIZES = {"fpn_channels": 4, "rpn_channels": 4, "box_head_channels": 4, "mask_head_channels": 4, "mask_head_convs": 1}
CONFIG = presets.tiny(**SIZES)
NAMES = ("background", "circle", "square", "triangle")
#: as JSON; what is too large for a configuration is another matter
WRONG = [
    "null", "true", "-1", "0", "1.5", "1e999", "-1e999", "NaN", "Infinity", '"x"', '""', '"1"', "[]", "[[]]", "[null]",
    '["x", 1]', "[1e999]", "{}", '{"x": {"y": []}}', "[" * 2000, '{"a":' * 2000, '"\\ud800"', '"' + "x" * 5000 + '"',
    "9" * 5000, '{"a": 1, "a": 1}',
]  # fmt: skip
HUGE = ["1" + "0" * 30, "9" * 4000, "18446744073709551616"]


def places(tree, path=()):
    """Every key of nested objects, and one member of each list."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield (*path, key)
            yield from places(value, (*path, key))
    elif isinstance(tree, list) and tree:
        yield (*path, 0)


def mutations(tree):
    """Return (what, JSON text): every key missing, under another name, and with every wrong value."""
    yield "as it is", json.dumps(tree)
    for wrong in WRONG:
        yield f"all is {wrong[:20]}", wrong
    for path in places(tree):
        changed = copy.deepcopy(tree)
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        kept = inner[path[-1]]
        for wrong in WRONG + ([] if "config" in path or "overrides" in path or path[-1] == "num_classes" else HUGE):
            inner[path[-1]] = "MARK"
            yield f"{path} is {wrong[:20]}", json.dumps(changed).replace('"MARK"', wrong)
        if isinstance(inner, dict):
            del inner[path[-1]]
            yield f"{path} is missing", json.dumps(changed)
            inner[f"{path[-1]}_"] = kept
            yield f"{path} has another name", json.dumps(changed)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A good checkpoint: its tensors, and its header."""
    params = initialise(CONFIG, np.random.default_rng(0))
    velocity = {name: np.zeros_like(p) for name, p in params.items() if trainable(name)}
    path = tmp_path_factory.mktemp("good") / "checkpoint.safetensors"
    save_checkpoint(path, Checkpoint(3, 0, CONFIG, NAMES, params, velocity, "abc", ("a",)))
    with safetensors.safe_open(path, framework="numpy") as file:
        header = json.loads(json.loads(file.metadata()[KEY])["header"])
        return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118


def write_checkpoint(path, tensors, text):
    crc = zlib.crc32(text.encode(errors="surrogatepass"))
    path.write_bytes(safetensors.numpy.save(tensors, {KEY: json.dumps({"crc32": crc, "header": text})}))


def check_message(error, path):
    assert str(path) in str(error)
    assert len(str(error).splitlines()[0]) < 700


def short(header):
    """A header with few of the 90 fields and 100 checksums, of which one is like the other."""
    return header | {
        "config": dict(list(header["config"].items())[::6]) | {"num_classes": 4, "name": "tiny"},
        "checksums": dict(list(header["checksums"].items())[:2]),
    }


def test_every_mutation_of_a_checkpoints_header_is_refused_or_right(tmp_path, checkpoint):
    """``load_checkpoint`` with every key; only few values are as good as the right one."""
    tensors, header = checkpoint
    few = {name: tensors[name] for name in short(header)["checksums"]}
    path, right = tmp_path / "c.safetensors", 0
    for what, text in mutations(short(header)):
        write_checkpoint(path, few, text)
        try:
            load_checkpoint(path)
            right += 1
            allowed = ("as it is", "('config", "('step", "('seed", "('images", "('skipped", "('class_names")
            assert what.startswith(allowed), what
        except CheckpointError as error:
            check_message(error, path)
    assert right > 20


def test_every_command_loads_them_alike(tmp_path, checkpoint):
    """Some mutations of the whole header, by all functions with which commands load."""
    tensors, header = checkpoint
    path = tmp_path / "c.safetensors"
    cases = list(mutations(header))
    for what, text in cases[::149]:
        write_checkpoint(path, tensors, text)
        for load in (load_weights, load_model, lambda p: read_start(p, None)):
            try:
                load(path)
            except (CheckpointError, WeightFileError) as error:
                assert str(path) in str(error), what


@pytest.mark.parametrize(
    "envelope",
    ["", "7", "null", "[]", "{}", '{"crc32": 0}', '{"header": "{}"}', '{"crc32": "x", "header": "{}"}', "[" * 5000,
     '{"crc32": 1e999, "header": "{}"}', '{"crc32": 0, "header": {}}', '{"crc32": 0, "header": "\\ud800"}',
     '{"crc32": 0, "crc32": 0, "header": ""}', '{"crc32": true, "header": "{}"}', '{"crc32": NaN, "header": ""}'],
)  # fmt: skip
def test_envelopes(tmp_path, envelope):
    path = tmp_path / "c.safetensors"
    path.write_bytes(safetensors.numpy.save({"params/a": np.zeros(2, np.float32)}, {KEY: envelope}))
    for load in (load_checkpoint, load_weights, load_model):
        with pytest.raises(CheckpointError, match=r"c\.safetensors is cut short or damaged"):
            load(path)


def test_every_mutation_of_a_manifest_is_refused_or_right(tmp_path, checkpoint):
    params = {name.removeprefix("params/"): t for name, t in checkpoint[0].items() if name.startswith("params/")}
    path = tmp_path / "w.safetensors"
    save_weights(path, params, CONFIG)
    with safetensors.safe_open(path, framework="numpy") as file:
        manifest = json.loads(file.metadata()[MANIFEST])
    manifest |= {"class_names": list(NAMES), "presumed": ["bn_eps"]}
    for i, (_, text) in enumerate(mutations(manifest)):
        try:
            Manifest.from_json(text, path)
        except WeightFileError as error:
            check_message(error, path)
        if i % 29 == 0:
            path.write_bytes(safetensors.numpy.save(params, {MANIFEST: text}))
            try:
                load_weights(path)
            except WeightFileError as error:
                check_message(error, path)


def test_tensors_that_do_not_fit_their_header(tmp_path, checkpoint):
    tensors, header = checkpoint
    path = tmp_path / "c.safetensors"
    name = next(n for n in tensors if n.startswith("velocity/") and tensors[n].ndim == 4)
    for changed in (
        tensors | {name: tensors[name].transpose(3, 2, 1, 0).copy()},
        tensors | {name: tensors[name].astype(np.float64)},
        {**tensors, "velocity/nobody": np.zeros(2, np.float32)},
    ):
        save(path, changed, header)
        with pytest.raises(CheckpointError, match=r"c\.safetensors: the velocity of .* does not fit its parameters"):
            load_checkpoint(path)
    save(path, tensors | {name: np.zeros((2, 2), np.int64)}, header)
    with pytest.raises(CheckpointError, match="is int64; expected float32 or float64"):
        load_checkpoint(path)


def save(path, tensors, header):
    """Write tensors with right checksums."""
    from mrcnn_np.training.checkpoint import checksum

    write_checkpoint(path, tensors, json.dumps(header | {"checksums": {n: checksum(t) for n, t in tensors.items()}}))


def test_the_command_line_says_it_in_a_message(tmp_path, checkpoint, capsys):
    """Every command that reads a checkpoint, on what used to end in a traceback."""
    tensors, header = checkpoint
    run = tmp_path / "run"
    run.mkdir()
    path = run / "checkpoint.safetensors"
    (run / "metrics.jsonl").write_text("")
    shapes = ["--data", "shapes", "--root", str(generate(tmp_path / "shapes", train=1, val=1, size=32))]
    for change in ({"class_names": 3}, {"config": []}, {"checksums": None}):
        write_checkpoint(path, tensors, json.dumps(header | change))
        for command in (
            ["weights", "info", str(path)],
            ["weights", "convert", str(path), str(tmp_path / "out.safetensors")],
            ["detect", "--weights", str(path), "x.png"],
            ["detect", "--run", str(run), "x.png"],
            ["eval", "--run", str(run), *shapes],
            ["eval", "--weights", str(path), *shapes],
            ["train", "--out", str(run), *shapes, "--resume"],
            ["train", "--out", str(tmp_path / "new"), *shapes, "--weights", str(path)],
        ):
            assert main(command) == 2, command
            said = capsys.readouterr().err
            assert said.startswith("error: ") and "checkpoint.safetensors" in said, (command, change, said)
