"""The kernels for a graphics card in Numba's simulator: the tests in ``tests/cuda``, each file in a process of its own.

Numba reads NUMBA_ENABLE_CUDASIM when it is imported, and with it the whole process simulates. One file alone:
``NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/cuda/test_nms.py``.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "cuda"
SECONDS = 900  # on a machine that is busy with other things; all together take about a minute of one core

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") == "1" or os.environ.get("NUMBA_ENABLE_CUDASIM") == "1",
    reason="nothing of the simulator depends on the compiler for the CPU, and it does not run inside itself",
)


@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.glob("test_*.py")))
def test_in_the_simulator(file):
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    variables |= {"NUMBA_ENABLE_CUDASIM": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", str(FOLDER / file), "-q", "-rs", "-p", "no:cacheprovider"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    summary = done.stdout.strip().splitlines()[-1]
    assert "passed" in done.stdout or "[100%]" in done.stdout, summary
    if "SKIPPED" in done.stdout and "[100%]" in done.stdout and file == "test_ptx.py":
        pytest.skip(next(line for line in done.stdout.splitlines() if line.startswith("SKIPPED")))
