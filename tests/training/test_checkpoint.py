"""Checkpoints: the same bits back, the same bytes twice, and no damage unnoticed."""

import errno
import json
import os
import re
import zlib

import numpy as np
import pytest
import safetensors.numpy

from mrcnn_np import presets
from mrcnn_np.errors import CheckpointError, UserError
from mrcnn_np.training.checkpoint import (
    KEY,
    Checkpoint,
    check_resumable,
    config_differences,
    load_checkpoint,
    save_checkpoint,
)

CONFIG = presets.tiny(frozen=("rpn.*",), clip_norm=None)
NAMES = ("background", "circle", "square", "triangle")


def example(step=7, dtype=np.float32):
    rng = np.random.default_rng(0)
    params = {
        "z.w": rng.normal(size=(2, 3)).astype(dtype),
        "a.b": rng.normal(size=0).astype(dtype),
        "a.number": np.array(2.5, dtype),
        "a.mean": np.array([np.pi, -0.0], dtype),
        "m.w": rng.normal(size=(3, 2)).astype(dtype).T,  # not contiguous
    }
    velocity = {name: p + 1 for name, p in params.items() if name != "a.mean"}
    return Checkpoint(step, 3, CONFIG, NAMES, params, velocity, images="abc", skipped=("2007_000032",))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip_is_exact(tmp_path, dtype):
    saved = example(dtype=dtype)
    save_checkpoint(tmp_path / "c.safetensors", saved)
    loaded = load_checkpoint(tmp_path / "c.safetensors")
    for field in ("step", "seed", "config", "class_names", "images", "skipped"):
        assert getattr(loaded, field) == getattr(saved, field)
    for a, b in ((saved.params, loaded.params), (saved.velocity, loaded.velocity)):
        assert list(a) == list(b)  # the order too: it is the order of sums
        for name in a:
            assert a[name].dtype == b[name].dtype
            assert a[name].shape == b[name].shape
            assert a[name].tobytes() == b[name].tobytes()
            assert b[name].flags.writeable


def test_same_content_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, example())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, example(step=1))

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        save_checkpoint(path, example(step=2))
    assert load_checkpoint(path).step == 1


def test_missing_empty_folder_and_foreign_files(tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path)
    for content in (b"", b"\x89PNG", b"x" * 5000):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"c\.safetensors is cut short or damaged"):
            load_checkpoint(path)
    safetensors.numpy.save_file({"w": np.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of mrcnn-np"):
        load_checkpoint(path)


def test_every_cut_is_found(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, example())
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="cut short or damaged"):
            load_checkpoint(path)


def test_every_flipped_bit_is_found(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, example())
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for position in [*range(0, header, 7), *range(header, len(whole))]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


def test_a_reshaped_tensor_is_found(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, example())
    path.write_bytes(path.read_bytes().replace(b'"shape":[2,3]', b'"shape":[3,2]'))
    with pytest.raises(CheckpointError, match="checksum of tensor"):
        load_checkpoint(path)


def rewrite_header(path, **changes):
    with safetensors.safe_open(path, framework="numpy") as file:
        header = json.loads(json.loads(file.metadata()[KEY])["header"]) | changes
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    text = json.dumps(header)
    metadata = {KEY: json.dumps({"crc32": zlib.crc32(text.encode()), "header": text})}
    path.write_bytes(safetensors.numpy.save(tensors, metadata))


def test_other_versions_are_named(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, example())
    rewrite_header(path, config={**CONFIG.to_dict(), "novelty": 1})
    with pytest.raises(CheckpointError, match=r"another version.*novelty"):
        load_checkpoint(path)
    rewrite_header(path, format=2)
    with pytest.raises(CheckpointError, match=r"format 2.*reads format 1"):
        load_checkpoint(path)


def test_config_differences_are_readable():
    other = CONFIG.replace(learning_rate=0.5, steps=5)
    rate = f"learning_rate: {CONFIG.learning_rate} there, 0.5 here"
    assert config_differences(CONFIG, CONFIG) == []
    assert config_differences(CONFIG, other) == [rate, f"steps: {CONFIG.steps} there, 5 here"]
    assert config_differences(CONFIG, other, ignore=("steps",)) == [rate]


def test_resuming_another_run_names_what_differs():
    same = {"config": CONFIG, "seed": 3, "class_names": NAMES, "images": "abc"}
    check_resumable(example(), **same)
    check_resumable(example(), **same | {"config": CONFIG.replace(steps=2000)})
    for change, message in [
        ({"config": CONFIG.replace(momentum=0.5)}, "momentum: 0.9 there, 0.5 here"),
        ({"seed": 4}, "seed: 3 there, 4 here"),
        ({"class_names": ("background", "cat")}, "class names: .*cat here"),
        ({"images": "xyz"}, "other image ids"),
        ({"config": CONFIG.replace(steps=6)}, "at step 7 already"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            check_resumable(example(), **same | change)


def test_resuming_with_another_preset_names_it_first_and_few_fields():
    other = presets.torchvision(num_classes=CONFIG.num_classes)
    with pytest.raises(CheckpointError) as refused:
        check_resumable(example(), config=other, seed=4, class_names=NAMES, images="abc")
    head, first, second, *fields, more, what_to_do = str(refused.value).splitlines()
    assert head == "the checkpoint belongs to another run:" and first == "  preset: tiny there, torchvision here"
    assert second == "  seed: 3 there, 4 here" and len(fields) == 3 and not any("name: " in row for row in fields)
    assert re.fullmatch(r"  and \d+ more", more)
    assert what_to_do.startswith("to go on with it, leave out what differs; to begin a new run")
    assert "--weights RUN/checkpoint.safetensors --out NEW" in what_to_do
