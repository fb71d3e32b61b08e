"""The kernels for a graphics card run here in Numba's simulator, in a process of their own.

Numba reads NUMBA_ENABLE_CUDASIM when it is imported, so without it these tests are left out.
"""

import os

import pytest

from kernels import use

if os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def numpy_bodies():
    """Let references call each other's NumPy bodies, not the kernels of the CPU, which take long to compile."""
    with use("numpy"):
        yield
