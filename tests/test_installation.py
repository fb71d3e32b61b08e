"""Beside another package called ``kernels``, of which there is one on PyPI: said at once, by every way in."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mrcnn_np
from mrcnn_np.installation import foreign_kernels

ROOT = Path(mrcnn_np.__file__).parents[1]
FOREIGN = '"""Accelerated kernels from a hub; importing them fails."""\nraise RuntimeError("imported")\n'
SAYS = "mrcnn-np needs its own package `kernels`, and Python finds another package of that name, "


def python(tmp_path, *arguments):
    """Run Python with a folder before ours; return exit code, stdout and stderr."""
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(params=["package", "module"])
def foreign(request, tmp_path):
    """Put a package of that name first."""
    path = tmp_path / "kernels" / "__init__.py" if request.param == "package" else tmp_path / "kernels.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(FOREIGN)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--data", "shapes"],
        ["detect", "--run", "x", "y.jpg"],
        ["eval", "--run", "x"],
        ["weights", "info", "x"],
        ["data", "shapes", "x"],
        ["bench"],
        ["conventions", "--list"],
    ],
)
def test_every_command_says_it_in_one_line(tmp_path, foreign, arguments):
    script = tmp_path / "mrcnn-np"
    script.write_text("import sys\nfrom mrcnn_np.__main__ import run\nsys.exit(run())\n")  # as pip writes it
    for start in (["-m", "mrcnn_np"], [str(script)]):
        code, out, err = python(tmp_path, *start, *arguments)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {SAYS}{foreign}: ") and err.count("\n") == 1
        assert "pip uninstall kernels" in err and "--force-reinstall" in err


@pytest.mark.parametrize(
    "statement",
    [
        "import mrcnn_np",
        "from mrcnn_np import MaskRCNN",
        "from mrcnn_np.ops.conv import conv2d",
        "from mrcnn_np.boxes import iou",
        "from mrcnn_np.weights import load_weights",
    ],
)
def test_an_import_says_it(tmp_path, foreign, statement):
    code, _, err = python(tmp_path, "-c", statement)
    assert code == 1 and err.splitlines()[-1].startswith(f"ImportError: {SAYS}{foreign}: ")
    # already imported by someone who needs it
    foreign.write_text("x = 1\n")
    code, _, err = python(tmp_path, "-c", f"import kernels\n{statement}")
    assert code == 1 and err.splitlines()[-1].startswith(f"ImportError: {SAYS}{foreign}: ")


def test_an_empty_folder_hides_nothing_and_ours_is_ours(tmp_path):
    (tmp_path / "kernels").mkdir()
    assert python(tmp_path, "-c", "import mrcnn_np.boxes")[0] == 0
    assert foreign_kernels() is None


def test_without_any(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "kernels", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "and Python finds none" in foreign_kernels()


def test_setuptools_has_nothing_to_warn_of():
    """Told where packages lie, it adds that folder to the path; else it writes a finder, and warns in rows of stars."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert table["package-dir"] == {"": "."} and "where" not in table["packages"]["find"]
