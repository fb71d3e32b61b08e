import os

import numba
import pytest

os.environ.setdefault("MRCNN_NP_COMPILE_AHEAD", "0")  # the workers of a test run keep the cores busy


@pytest.fixture(autouse=True)
def watch_memory():
    """Without the compiler, hold every address that a kernel uses to the arrays there are."""
    if not numba.config.DISABLE_JIT:
        yield
        return
    from watched_memory import watched

    with watched():
        yield
