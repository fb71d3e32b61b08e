"""What launchers leave in the environment."""

import pytest

from mrcnn_np.parallel.launch import launched


@pytest.mark.parametrize(
    "environ, expected",
    [
        ({}, None),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"}, (1, 4)),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, (0, 2)),
        ({"PMIX_RANK": "3", "SLURM_STEP_NUM_TASKS": "8"}, (3, 8)),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, None),  # mpirun -n 1
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "8"}, None),  # the shell of a job
        ({"PMI_RANK": "x", "PMI_SIZE": "2"}, None),
        ({"PMI_SIZE": "2"}, None),
    ],
)
def test_rank_and_size(environ, expected):
    assert launched(environ) == expected
