"""The kernels for a graphics card run here in Numba's simulator, in a process of their own.

Numba reads NUMBA_ENABLE_CUDASIM when it is imported, so without it these tests are left out. On a machine with a GPU
`make test-gpu` runs most of them on the card.
"""

import os

import pytest

from kernels import use

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
# what is about the stand-ins themselves, the order of threads, or the compiler
ABOUT_THE_SIMULATOR = ["test_machine.py", "test_ptx.py", "test_races.py", "test_tiles.py"]

if os.environ.get("MRCNN_NP_GPU") == "1" and not SIMULATED:  # `make test-gpu`: the others run on the card
    collect_ignore_glob = ABOUT_THE_SIMULATOR
elif not SIMULATED:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def numpy_bodies():
    """Let references call each other's NumPy bodies, not the kernels of the CPU, which take long to compile."""
    with use("numpy"):
        yield
