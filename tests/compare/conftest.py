"""What the comparisons share."""

import ctypes
import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def memory_is_handed_back():
    """Whole frameworks have run here, and freed memory is kept for the next layer: hand it back for the next module."""
    yield
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc
        trim(0)
