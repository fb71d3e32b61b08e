"""Commands on two processes that mpiexec starts, where the extra is installed; without it, that it is asked for."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from mrcnn_np.cli.main import main
from mrcnn_np.data.findings import LOOKED_AT
from mrcnn_np.data.shapes import generate
from mrcnn_np.training.batches import batch_indices
from mrcnn_np.training.checkpoint import load_checkpoint
from mrcnn_np.training.run_folder import CHECKPOINT, METRICS, OPTIONS, read_steps

ROOT = Path(__file__).parents[2]
#: the extra's mpiexec lies beside the Python that runs the tests
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

mpi = pytest.mark.skipif(
    find_spec("mpi4py") is None or MPIEXEC is None, reason="needs mpi4py and mpiexec: pip install -e '.[mpi]'"
)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    generate(root, train=4, val=5, size=64)
    return root


def started(*args, ranks=2, environ=()):
    """Run a command on so many processes, on the NumPy backend with one thread each."""
    own = {"MRCNN_NP_BACKEND": "numpy", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    before = [] if ranks == 1 else [MPIEXEC, "-n", str(ranks)]
    return subprocess.run(
        [*before, sys.executable, "-m", "mrcnn_np", *map(str, args)],
        env={**os.environ, **own, **dict(environ)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.fixture
def running():
    """Start a training on two processes, wait for its third step, and return its folder; it is ended by the test."""
    processes = []

    def start(root, folder):
        own = {"MRCNN_NP_BACKEND": "numpy", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        args = training(root, folder, "--steps", 500, "--checkpoint-every", 1, "--no-eval")
        process = subprocess.Popen(
            [MPIEXEC, "-n", "2", sys.executable, "-m", "mrcnn_np", *map(str, args)],
            env={**os.environ, **own}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        deadline = time.monotonic() + 200
        while not (folder / METRICS).exists() or len((folder / METRICS).read_bytes().splitlines()) < 3:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def ranks_of(folder):
    """Return the numbers of the processes that train into a folder, those of the launcher left out."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if str(folder).encode() in command and Path(os.fsdecode(command[0])).name.startswith("python"):
            found.append(int(place.name))
    return sorted(found)


def training(root, folder, *more):
    options = ["--size", 64, "--batch-size", 2, "--steps", 2, "--no-pictures", "--quiet"]
    return ["train", "--data", "shapes", "--root", root, "--out", folder, *options, *more]


def test_a_process_by_itself_imports_no_mpi():
    code = "import sys; from mrcnn_np.cli.main import main; main(['conventions', '--list']); "
    code += "sys.exit('mpi4py' in sys.modules)"
    environ = {**os.environ, "MRCNN_NP_BACKEND": "numpy"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_without_the_extra_several_processes_stop(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "4")
    assert main(["train", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: this is one of 4 processes") and "pip install 'mrcnn-np[mpi]'" in said
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("PMI_RANK", "1")  # whose message comes only if the first one has not ended it
    assert main(["train", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr() == ("", "")


def test_commands_for_one_process_say_so(monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    assert main(["conventions"]) == 2
    assert "conventions was started as 3 processes, which cannot share its work" in capsys.readouterr().err


@mpi
def test_two_processes_train_detect_and_evaluate_like_one(shapes, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    results = [started(*training(shapes, folder), ranks=n) for n, folder in ((1, one), (2, two))]
    assert [r.returncode for r in results] == [0, 0], results[1].stderr
    rows = [read_steps(folder / METRICS) for folder in (one, two)]
    assert rows[1][0] == pytest.approx(rows[0][0], rel=1e-6)  # later steps follow in float32, not to 1e-6
    assert [len(r) for r in rows] == [2, 2]
    assert {p.name for p in one.iterdir()} == {p.name for p in two.iterdir()}
    assert json.loads((two / OPTIONS).read_text())["processes"] == 2

    detected = []
    for n, name in ((1, "a"), (2, "b")):
        out, found = tmp_path / name, tmp_path / f"{name}.json"
        pictures = shapes / "VOC2012" / "JPEGImages"
        done = started("detect", "--run", two, pictures, "--out", out, "--score", 0, "--coco-results", found,
                       "--no-pictures", "--quiet", "--table", tmp_path / f"{name}.csv", ranks=n)  # fmt: skip
        assert done.returncode == 0, done.stderr
        files = {p.name: p.read_bytes() for p in out.iterdir()}
        tables = [(tmp_path / f"{name}{end}.csv").read_bytes() for end in ("", "-pictures")]
        detected.append((done.stdout.replace(str(tmp_path / name), "OUT"), files, found.read_bytes(), tables))
    assert detected[0] == detected[1] and len(detected[0][1]) == 18

    evaluated = []
    for n in (1, 2):
        done = started("eval", "--run", two, "--out", tmp_path / "eval.json", "--quiet", ranks=n)
        numbers = json.loads((tmp_path / "eval.json").read_text())
        evaluated.append((done.returncode, done.stdout, {k: v for k, v in numbers.items() if k != "seconds"}))
    assert evaluated[0] == evaluated[1] and evaluated[0][0] == 0

    more = started("train", "--out", two, "--resume", "--steps", 3, "--no-eval", "--quiet", "--no-pictures", ranks=1)
    assert more.returncode == 0, more.stderr
    assert "was started as 2 processes and goes on as one process" in more.stdout
    assert len(read_steps(two / METRICS)) == 3


@mpi
def test_a_failure_of_one_process_stops_all_with_its_message(tmp_path):
    """The picture is none of those that are looked at before the start, every second one."""
    broken, images = tmp_path / "shapes", LOOKED_AT + 6
    generate(broken, train=images, val=1, size=64)
    seed = next(seed for seed in range(9) if batch_indices(seed, 0, 2, images)[1] % 2)
    _, of_second_rank = batch_indices(seed, 0, 2, images)
    (broken / "VOC2012" / "JPEGImages" / f"train_{of_second_rank:06}.jpg").write_bytes(b"no picture")
    done = started(*training(broken, tmp_path / "run", "--no-eval", "--seed", seed))
    assert done.returncode == 2, done.stderr
    assert f"error: rank 1 of 2: image train_{of_second_rank:06}: " in done.stderr and "Traceback" not in done.stderr
    assert load_checkpoint(tmp_path / "run" / CHECKPOINT).step == 0  # what one can go on from, once it is mended


@mpi
def test_what_is_wrong_on_all_is_said_once(shapes, tmp_path):
    done = started(*training(shapes, tmp_path / "run"), ranks=3)
    assert done.returncode == 2
    assert done.stderr.count("a batch has 2 images, too few for 3 ranks") == 1
    assert not (tmp_path / "run").exists()


@mpi
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("how", ["Ctrl-C", "a rank is killed"])
def test_what_ends_one_ends_all_and_the_run_goes_on(shapes, tmp_path, running, how):
    folder = tmp_path / "run"
    process = running(shapes, folder)
    numbers = ranks_of(folder)
    assert len(numbers) == 2
    if how == "Ctrl-C":
        process.send_signal(signal.SIGINT)
    else:
        os.kill(numbers[-1], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if how == "Ctrl-C" else 9), said
    assert ("mpirun -n 2 mrcnn-np train" in said) == (how == "Ctrl-C")
    deadline = time.monotonic() + 20
    while ranks_of(folder):
        assert time.monotonic() < deadline, "a rank goes on by itself"
        time.sleep(0.1)
    step = load_checkpoint(folder / CHECKPOINT).step
    assert step >= 2
    more = started("train", "--out", folder, "--resume", "--steps", step + 1, "--no-eval", "--quiet", "--no-pictures")
    assert more.returncode == 0, more.stderr
    assert [row["step"] for row in read_steps(folder / METRICS)] == list(range(1, step + 2))
