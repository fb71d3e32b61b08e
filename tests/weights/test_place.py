"""The folder of a run stands for its checkpoint, wherever weights are named."""

import pytest

from mrcnn_np.weights import WeightFileError, load_weights
from mrcnn_np.weights.place import file_of, of_run, runs_in


def test_the_folder_of_a_run(tmp_path):
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    checkpoint = run / "checkpoint.safetensors"
    checkpoint.touch()
    for path in (run, str(run), checkpoint):
        assert file_of(path) == of_run(path) == checkpoint
    for path in (tmp_path / "runs", tmp_path / "nothing"):
        assert of_run(path) == path
    assert file_of(tmp_path / "nothing") == tmp_path / "nothing"  # whoever reads it says what is wrong
    assert runs_in(run.parent) == f"; the runs in {run.parent} are first"
    assert runs_in(tmp_path) == runs_in(tmp_path / "nothing") == ""


def test_a_folder_that_is_no_run(tmp_path):
    said = r"holds no checkpoint\.safetensors; it is a folder, expected that of a training run, or a file of weights$"
    for read in (file_of, load_weights):
        with pytest.raises(WeightFileError, match=said):
            read(tmp_path)
