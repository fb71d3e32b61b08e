"""What surrounds the program: found before the work begins, and said in one message with exit code 2, or no matter."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from small_run import SMALL

#: as in a bare container: no HOME, and a user that is not in /etc/passwd
NOBODY = """
import os, pwd, sys

def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = unknown
os.environ.pop("HOME", None)
from mrcnn_np.__main__ import run
run()
"""
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def program(*arguments, code=None, megabytes=None, **variables):
    """Run the program among these variables; return exit code, stdout and stderr."""

    def limit():
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    command = [sys.executable, *(["-m", "mrcnn_np"] if code is None else ["-c", code]), *map(os.fspath, arguments)]
    environment = {**os.environ, **variables}
    if "MRCNN_NP_BACKEND" not in variables:
        environment.pop("MRCNN_NP_BACKEND", None)
    done = subprocess.run(
        command, env=environment, capture_output=True, check=False, preexec_fn=None if megabytes is None else limit
    )
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def refused(*arguments, **surroundings):
    code, _, err = program(*arguments, **surroundings)
    assert code == 2 and "Traceback" not in err, err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    return lines[0]


@pytest.fixture
def detect(trained, tmp_path):
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "x.png")
    return ["detect", "--run", trained, tmp_path / "x.png", "--out", tmp_path / "out", "--quiet"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MRCNN_NP_BACKEND": "gpu"}, "MRCNN_NP_BACKEND is 'gpu'; expected numpy, cpu, cuda"),
        ({"MRCNN_NP_VECTOR": "x"}, "MRCNN_NP_VECTOR is 'x'; expected 8 or 16"),
        ({"MRCNN_NP_VECTOR": "32"}, "MRCNN_NP_VECTOR is '32'"),
        ({"MRCNN_NP_CACHE": "1M"}, "MRCNN_NP_CACHE is '1M'; expected the KiB of a second-level cache"),
        ({"MRCNN_NP_CACHE": "8"}, "MRCNN_NP_CACHE is '8'"),
        ({"NUMBA_NUM_THREADS": "0"}, "NUMBA_NUM_THREADS is '0'; expected a whole number of at least 1"),
        ({"NUMBA_NUM_THREADS": "-1"}, "NUMBA_NUM_THREADS is '-1'"),
        ({"NUMBA_NUM_THREADS": "two"}, "NUMBA_NUM_THREADS is 'two'"),
        ({"NUMBA_NUM_THREADS": "00"}, "NUMBA_NUM_THREADS is '00'; expected a whole number of at least 1"),
        (
            {"NUMBA_NUM_THREADS": "4097"},
            "NUMBA_NUM_THREADS is '4097'; expected a whole number of at least 1 and at most 4096",
        ),
        ({"NUMBA_NUM_THREADS": "99999999999"}, "NUMBA_NUM_THREADS is '99999999999'; expected"),
        ({"NUMBA_NUM_THREADS": "9" * 5000}, "NUMBA_NUM_THREADS is '999"),
        ({"NUMBA_DEBUG": "x"}, "NUMBA_DEBUG is 'x', which Numba cannot read"),
        ({"NUMBA_OPT": "x"}, "supported values are 0, 1, 2, 3, and 'max'"),
        ({"NUMBA_DISABLE_JIT": "x\ny"}, "NUMBA_DISABLE_JIT is 'x\\ny', which Numba cannot read"),
        ({"NUMBA_THREADING_LAYER": "bogus"}, "the compiled kernels cannot be loaded: "),
        ({"NUMBA_THREADING_LAYER_PRIORITY": "x"}, "the compiled kernels cannot be loaded: "),
    ],
)
def test_variables_that_nothing_can_be_done_with(detect, tmp_path, variables, message):
    assert message in refused(*detect, **variables)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "variables",
    [
        {"MPLBACKEND": "bogus"}, {"MPLBACKEND": "qtagg"}, {"MPLCONFIGDIR": "/proc/x"}, {"MATPLOTLIBRC": "/nowhere"},
        {"TMPDIR": "/nowhere"}, {"MRCNN_NP_VECTOR": ""}, {"MRCNN_NP_BACKEND": ""},
        {"NUMBA_NUM_THREADS": "", "NUMBA_DEBUG": ""}, {"NUMBA_NUM_THREADS": " 02"},
        {"OPENBLAS_NUM_THREADS": "x"}, ASCII,
    ],
)  # fmt: skip
def test_variables_that_do_not_matter(detect, tmp_path, variables):
    code, _, err = program(*detect, **variables)
    assert code == 0 and "Traceback" not in err, err
    assert (tmp_path / "out" / "x_detections.png").exists()


def test_the_numpy_backend_does_without_numba(detect):
    variables = {"NUMBA_NUM_THREADS": "0", "MRCNN_NP_VECTOR": "x", "NUMBA_DEBUG": "x"}
    assert program(*detect, "--backend", "numpy", **variables)[0] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's here")
@pytest.mark.parametrize("megabytes", [200, 300, 500, 900])
@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_low_limit_on_memory(detect, megabytes, backend):
    enough = megabytes >= {"numpy": 256, "cpu": 1024}[backend]
    if enough:
        code, _, err = program(*detect, "--backend", backend, megabytes=megabytes)
        assert code in (0, 2) and "Traceback" not in err, err
    else:
        message = refused(*detect, "--backend", backend, megabytes=megabytes)
        assert f"the limit on memory is {megabytes} MiB (ulimit -v); expected at least " in message


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_user_without_a_home(detect, backend):
    """There is a message at most, never a traceback."""
    code, _, err = program(*detect, "--backend", backend, code=NOBODY)
    assert code in (0, 2) and "Traceback" not in err, err
    if code:
        assert err.count("error: ") == 1


# --- names that are no UTF-8, under a locale that knows ASCII only


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
@pytest.mark.parametrize("variables", [{}, ASCII], ids=["utf-8", "ascii"])
@pytest.mark.parametrize("name", [os.fsdecode(b"\xff"), "ä", "図"])
def test_paths_of_any_letters(shapes, tmp_path, name, variables):
    """Every command that writes: nothing ends after the work in a traceback about letters."""
    if variables and not os.fsencode(name).isascii():
        name = os.fsencode(name)
    folder = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    os.mkdir(folder)

    def place(*parts):
        return os.path.join(folder, *map(os.fsencode, parts))

    with open(place("x.png"), "wb") as file:
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(file, format="png")
    run, data = place("run"), ["--root", shapes]
    commands = [
        ["train", *data, "--out", run, *SMALL, "--steps", "1"],
        ["train", "--out", run, "--resume", "--quiet"],
        ["detect", "--run", run, place("x.png"), "--out", place("found"), "--coco-results", place("found.json")],
        ["eval", "--run", run, "--out", place("e.json"), "--coco-results", place("r.json"), "--quiet"],
        ["data", "check", *data, "--split", "val", "--good-ids", place("good.txt"), "--json", place("check.json")],
        ["data", "coco", *data, "--split", "val", "--out", place("val.json"), "--quiet"],
        ["weights", "convert", place("run", "checkpoint.safetensors"), place("w.safetensors")],
        ["weights", "info", place("w.safetensors")],
        ["conventions", place("x.png"), "--run", run, "--only", "mask_threshold", "--out", place("c"), "--quiet"],
    ]
    for command in commands:
        code, _, err = program(*command, MRCNN_NP_BACKEND="numpy", **variables)
        assert code == 0 and "Traceback" not in err, (command, err)
    with open(place("run", "options.json"), "rb") as file:
        assert json.load(file)["steps"] == 1
