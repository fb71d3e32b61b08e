"""What is said of options and fields that do not exist: only what the command has."""

import argparse
import re

import pytest

from mrcnn_np.cli.arguments import build_parser
from mrcnn_np.cli.hints import ELSEWHERE, assignment, option_meant
from mrcnn_np.cli.main import main
from mrcnn_np.config.config import DECLARATIONS


def refused(capsys, *command):
    with pytest.raises(SystemExit) as ended:
        main(list(command))
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--lr", "'--config learning_rate=VALUE'"),
        ("--learning-rate", "'--config learning_rate=VALUE'"),
        ("--learning_rate", "'--config learning_rate=VALUE'"),
        ("--learnin-rate", "'--config learning_rate=VALUE'"),
        ("--wd", "'--config weight_decay=VALUE'"),
        ("--momentum", "'--config momentum=VALUE'"),
        ("--epochs", "'--steps'"),
        ("--batch", "'--batch-size'"),
        ("--batch_size", "'--batch-size'"),
        ("--img-size", "'--size'"),
        ("--presett", "'--preset'"),
    ],
)
def test_an_option_that_train_has_not(capsys, option, meant):
    said = refused(capsys, "train", option, "1")
    assert said.startswith("usage: mrcnn-np train ")
    assert f"mrcnn-np train: error: unrecognized arguments: {option} 1; did you mean {meant}?" in said
    assert f"did you mean {meant}?" in refused(capsys, "train", f"{option}=1")


def test_every_misspelled_option_is_named(capsys):
    said = refused(capsys, "train", "--presets", "small", "--minute", "1", "--seed", "3", "--zzz")
    assert "--zzz; --presets: did you mean '--preset'? --minute: did you mean '--minutes'?" in said
    assert "--minute 1 --minute 2; did you mean '--minutes'?" in refused(
        capsys, "train", "--minute", "1", "--minute", "2"
    )


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["--quiet", "explain", "--run", "r"],
            "explain: error: --quiet comes after the command: mrcnn-np explain --quiet ...",
        ),
        (["--run", "r", "explain"], "explain: error: --run comes after the command"),
        (["--run=r", "--quiet", "eval"], "eval: error: --run, --quiet come after the command"),
        (
            ["data", "--data", "d", "check"],
            "data check: error: --data comes after the command: mrcnn-np data check --data ...",
        ),
        (["--quiet", "data", "check"], "data check: error: --quiet comes after the command"),
        (["--zzz", "explain", "--run", "r"], "explain: error: unrecognized arguments: --zzz"),
    ],
)
def test_an_option_before_its_command(capsys, typed, said):
    err = refused(capsys, *typed)
    assert f"mrcnn-np {said}" in err and "did you mean" not in err


@pytest.mark.parametrize("command", [["data", "check"], ["data", "show"], ["train"]])
def test_a_path_without_its_option(capsys, tmp_path, command):
    (tmp_path / "my data").mkdir()
    path = str(tmp_path / "my data")
    assert f"unrecognized arguments: {path}; did you mean --data '{path}'?" in refused(capsys, *command, path)
    assert "did you mean" not in refused(capsys, *command, path + "x")


def test_a_field_that_shares_a_few_letters_is_not_meant(capsys):
    assert "did you mean" not in refused(capsys, "data", "show", "--class", "sheep")


def test_an_option_of_another_command_is_not_named(capsys):
    assert "did you mean '--val'?" not in refused(capsys, "train", "--vall", "1")
    said = refused(capsys, "data", "shapes", "--vall", "1")
    assert said.startswith("usage: mrcnn-np data shapes ") and "did you mean '--val'?" in said
    assert "did you mean" not in refused(capsys, "data", "shapes", "--lr", "1")  # it has no --config


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["train", "--config", "anchor_sizes=[18,", "28,", "184]"], "--config 'anchor_sizes=[18, 28, 184]'"),
        (["train", "--config=anchor_sizes=[18,", "28]", "--steps", "5"], "--config 'anchor_sizes=[18, 28]'"),
        (["train", "--data", "my", "parts", "--quiet"], "--data 'my parts'"),
        (["eval", "--run", "runs/my", "first", "run"], "--run 'runs/my first run'"),
        (["data", "check", "--data", "my", "parts"], "--data 'my parts'"),
        (["train", "--steps", "5", "6"], None),
        (["train", "parts"], None),
        (["train", "--quiet", "parts"], None),
        (["train", "--preset", "tiny", "small"], None),
    ],
)
def test_a_value_with_spaces_that_lacks_quotes(capsys, typed, meant):
    said = refused(capsys, *typed)
    assert "unrecognized arguments: " in said and ("needs quotes" in said) == (meant is not None)
    assert meant is None or said.endswith(f"; a value with spaces needs quotes: {meant}\n")


@pytest.mark.parametrize("command", [
    ["detect", "nwe", "--run", "RUN"], ["detect", "nwe.mp4", "--run", "RUN"],
    ["runs", "nwe"], ["eval", "--results", "r.json", "--ground-truth", "nwe"],
    ["train", "--root", "SHAPES", "--config", "nwe"],
    ["data", "check", "--data", "nwe"], ["train", "--data", "labelme", "--root", "nwe"], ["eval", "--run", "nwe"],
    ["eval", "--run", "RUN", "--ids", "nwe"], ["conventions", "nwe", "--run", "RUN"], ["weights", "info", "nwe"],
])  # fmt: skip
def test_a_path_that_is_misspelt(trained, shapes, capsys, tmp_path, monkeypatch, command):
    """Of each command that takes one; the folder beside is named."""
    monkeypatch.chdir(tmp_path)
    meant = "new.mp4" if "nwe.mp4" in command else "new"
    (tmp_path / meant).mkdir()
    (tmp_path / "r.json").write_text("[]")
    places = {"RUN": str(trained), "SHAPES": shapes}
    assert main([places.get(word, word) for word in command]) == 2
    assert f"; did you mean '{meant}'?" in capsys.readouterr().err


def commands(parser, path=()):
    """Every parser with the words that lead to it."""
    yield path, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from commands(command, (*path, name))


def test_every_command_names_only_what_it_has():
    wrong = [*ELSEWHERE, "val", "trian", "ouput", "scores", "learning-rate", "x"]
    for path, parser in commands(build_parser()):
        for name in wrong:
            said = option_meant(f"--{name}", parser.options())
            if found := re.search(r"did you mean '(--[^ ']+)(?: (\w+)=VALUE)?'", said):
                assert found[1] in parser.options(), (path, name, said)
                assert (found[1] == "--config") == (found[2] in DECLARATIONS), (path, name, said)


@pytest.mark.parametrize("command", [["train"], ["detect", "--run", "r", "a.png"], ["eval", "--run", "r"]])
def test_a_field_of_another_name(capsys, command):
    said = refused(capsys, *command, "--config", "lr=0.01")
    assert "argument --config: unknown config field 'lr'; did you mean 'learning_rate'?" in said


@pytest.mark.parametrize("text", ["learning_rate=0.01", "lr.json", "lr", "nonsense=1", "device=1", " steps = 3", "="])
def test_what_is_read_as_it_is(text):
    assert assignment(text) == text


def test_names_from_elsewhere_are_none_of_ours_and_mean_something():
    own = {name[2:].replace("-", "_") for _, parser in commands(build_parser()) for name in parser.options()}
    assert set(ELSEWHERE.values()) <= own | DECLARATIONS.keys() and not ELSEWHERE.keys() & DECLARATIONS.keys()


@pytest.mark.parametrize(
    ("command", "number", "meant"),
    [
        (("detect", "--pixel-size", "0,32"), "a number above 0", "; write a point, not a comma: 0.32"),
        (("detect", "--score", "0,5"), "a number between 0 and 1", "; write a point, not a comma: 0.5"),
        (("detect", "--score", "1,5"), "a number between 0 and 1", ""),
        (("detect", "--pixel-size", "1,234.5"), "a number above 0", ""),
        (("detect", "--pixel-size", "a,b"), "a number above 0", ""),
    ],
)
def test_a_decimal_comma(capsys, command, number, meant):
    assert refused(capsys, *command).endswith(f"{command[-1]!r} is not {number}{meant}\n")
