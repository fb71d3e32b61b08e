import numba
import pytest


@pytest.fixture(autouse=True)
def watch_memory():
    """Without the compiler, hold every address that a kernel uses to the arrays there are."""
    if not numba.config.DISABLE_JIT:
        yield
        return
    from watched_memory import watched

    with watched():
        yield
