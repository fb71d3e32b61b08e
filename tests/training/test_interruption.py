"""Ctrl-C ends the step that is being done and saves it; a second one interrupts at once."""

import os
import signal
import threading

import pytest

import mrcnn_np.training.loop as loop
from mrcnn_np import MaskRCNN, presets
from mrcnn_np.data import open_dataset
from mrcnn_np.data.shapes import generate
from mrcnn_np.training.checkpoint import load_checkpoint
from mrcnn_np.training.interruption import Interruption
from mrcnn_np.training.run_folder import CHECKPOINT, METRICS, read_steps


@pytest.fixture(autouse=True)
def default_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_is_noted_and_the_second_interrupts(capsys):
    with Interruption(enabled=True) as interruption:
        interrupt()
        assert interruption.asked and "Ctrl-C again stops at once" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_who_keeps_the_handler():
    with Interruption(enabled=False), pytest.raises(KeyboardInterrupt):
        interrupt()
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append("own"))
    with Interruption(enabled=True) as interruption:
        interrupt()
    assert seen == ["own"] and not interruption.asked
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asked = []

    def elsewhere():
        with Interruption(enabled=True) as interruption:
            asked.append(interruption.asked)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert asked == [False]


def test_nothing_of_a_training_is_lost(tmp_path, monkeypatch):
    generate(tmp_path / "shapes", train=4, val=1, size=64)
    dataset = open_dataset("shapes", tmp_path / "shapes")
    config = presets.tiny(num_classes=len(dataset.class_names)).replace(
        image_min_size=64, image_max_size=64, batch_size=1, steps=5
    )
    real = loop.train_step

    def interrupted(*args, step, **kwargs):
        if step == 2:
            interrupt()
        return real(*args, step=step, **kwargs)

    folders = [tmp_path / "whole", tmp_path / "parts"]
    for folder in folders:
        folder.mkdir()
    loop.train(MaskRCNN(config), dataset, out_dir=folders[0], progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.train(MaskRCNN(config), dataset, out_dir=folders[1], progress=False)
    kept = load_checkpoint(folders[1] / CHECKPOINT)
    assert kept.step == 3 and len(read_steps(folders[1] / METRICS)) == 3
    loop.train(MaskRCNN(config), dataset, out_dir=folders[1], resume=kept, progress=False)
    for name in (CHECKPOINT, METRICS):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
