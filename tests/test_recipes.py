"""recipes/: the files are configurations, and the ablation trains and measures a row and does not train it again."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from annotated_trees import labelme

from mrcnn_np import presets
from mrcnn_np.config import Config

RECIPES = Path(__file__).parents[1] / "recipes"


def ablation():
    spec = importlib.util.spec_from_file_location("recipes_ablation", RECIPES / "ablation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.json")), ids=lambda path: path.stem)
def test_a_recipe_is_a_configuration(path):
    changed = presets.small().with_overrides([f"{k}={json.dumps(v)}" for k, v in json.loads(path.read_text()).items()])
    assert isinstance(changed, Config) and changed.steps > 0


def test_the_steps_of_the_ablation_end_in_the_recipe():
    fields = [field for step in ablation().NUCLEI for field in step.partition(":")[2].split()]
    recipe = json.loads((RECIPES / "nuclei.json").read_text())
    built = presets.small().with_overrides(fields).replace(steps=recipe["steps"])
    assert built == presets.small().with_overrides([f"{k}={json.dumps(v)}" for k, v in recipe.items()])


def test_a_row_is_trained_measured_and_kept(tmp_path, monkeypatch, capsys):
    module, commands = ablation(), []

    def run(*command):
        commands.append(command)
        out = Path(command[command.index("--out") + 1])
        if command[0] == "train":
            out.mkdir(parents=True)
            (out / "summary.json").write_text('{"steps": 7}')
        else:
            out.write_text('{"mask": {"AP50": 0.25, "AP": 0.125}}')

    monkeypatch.setattr(module, "_mrcnn_np", run)
    steps = ["--step", "plain:", "--step", "norm: fpn_norm=true"]
    monkeypatch.setattr(sys, "argv", ["ablation.py", "--data", "x", "--out", str(tmp_path), *steps])
    module.main()
    assert [command[0] for command in commands] == ["train", "eval"] * 2
    assert "fpn_norm=true" in commands[2] and "fpn_norm=true" not in commands[0]
    assert "0.250" in capsys.readouterr().out
    module.main()
    assert [command[0] for command in commands[4:]] == ["eval"] * 2
    assert json.loads((tmp_path / "ablation.json").read_text())["norm"]["steps"] == 7


def test_the_commands_of_a_row_are_those_of_the_command_line(tmp_path, monkeypatch):
    module = ablation()
    monkeypatch.setattr(sys, "argv", [
        "ablation.py", "--data", str(labelme(tmp_path / "photos")), "--val-fraction", "0.5", "--minutes", "0.1",
        "--preset", "tiny", "--out", str(tmp_path / "out"),
        "--step", "little: image_min_size=64 image_max_size=64 batch_size=1",
    ])  # fmt: skip
    module.main()
    (row,) = json.loads((tmp_path / "out" / "ablation.json").read_text()).values()
    assert row["steps"] >= 1 and -1 <= row["coco"]["mask"]["AP"] <= 1
