"""The command line as such: help, usage, and errors that are one message."""

import pytest

from mrcnn_np.cli.main import main


def test_too_little_memory_is_a_message(monkeypatch, tmp_path, capsys):
    def fail(*args, **options):
        raise MemoryError("Unable to allocate 8 TiB")

    monkeypatch.setattr("mrcnn_np.cli.network.load_checkpoint", fail)
    assert main(["detect", "--checkpoint", str(tmp_path), "x.png"]) == 2
    assert capsys.readouterr().err.startswith("error: not enough memory (Unable to allocate 8 TiB)")


@pytest.mark.parametrize(
    "command",
    [[], ["train"], ["detect"], ["eval"], ["runs"], ["data"], ["data", "shapes"], ["data", "voc"], ["data", "check"]],
)
def test_help(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "usage: mrcnn-np" in text
    if command and command != ["data"]:
        assert "example" in text


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["trian"],
        ["train", "--preset", "huge"],
        ["train", "--steps", "-1"],
        ["train", "--seed", "x"],
        ["train", "--step", "3"],
        ["detect", "x.png"],
        ["detect", "--run", "a", "--checkpoint", "b", "x.png"],
        ["detect", "--run", "a", "x.png", "--score", "2"],
    ],
)
def test_usage_errors(command):
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 2


def test_debug_shows_the_traceback(tmp_path):
    from mrcnn_np.errors import CheckpointError

    with pytest.raises(CheckpointError):
        main(["detect", "--checkpoint", str(tmp_path), "x.png", "--debug"])


def test_threads_that_are_not_there_are_refused(tmp_path, capsys):
    assert main(["train", "--threads", "4096", "--backend", "cpu", "--out", str(tmp_path / "run")]) == 2
    assert "--threads 4096: there are " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["trian"], "train"),
        (["data", "chek"], "check"),
        (["train", "--preset", "tinny"], "tiny"),
        (["train", "--presett", "tiny"], "--preset"),
        (["detect", "--run", "r", "a.png", "--ouput", "o"], "--out"),
        (["weights", "inf", "a.npz"], "info"),
    ],
)
def test_the_nearest_name_is_said(arguments, meant, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and f"did you mean {meant!r}?" in said.replace('"', "'"), said


@pytest.mark.parametrize(
    ("error", "said"), [(KeyboardInterrupt("go on so"), "go on so"), (KeyboardInterrupt(), "interrupted")]
)
def test_an_interrupted_rank_passes_on_what_to_do(monkeypatch, error, said):
    """The first rank may hang in a call that waits for the one that was interrupted, and say nothing itself."""
    told = []

    def command(args):
        raise error

    monkeypatch.setattr("mrcnn_np.cli.main._command", lambda args: command)
    monkeypatch.setattr("mrcnn_np.cli.main.stop_others", lambda args, code, message: told.append((code, message)))
    assert main(["runs", "a"]) == 130 and told == [(130, said)]
