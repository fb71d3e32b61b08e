"""A small data set, and a finished run on it."""

import pytest
from small_run import SMALL

from mrcnn_np.cli.main import main


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    assert main(["data", "shapes", "--root", str(root), "--train", "6", "--val", "2", "--size", "64"]) == 0
    return str(root)


@pytest.fixture(scope="session")
def trained(shapes, tmp_path_factory):
    """A finished run; tests only read it."""
    out = tmp_path_factory.mktemp("runs") / "a"
    assert main(["train", "--root", shapes, "--out", str(out), "--eval-splits", "train,val", *SMALL]) == 0
    return out
