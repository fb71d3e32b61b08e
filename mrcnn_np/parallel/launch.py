"""Whether this process was started as one of several, by ``mpirun`` or the like.

Whoever starts a command by itself meets nothing of this: a few environment variables are looked at. Where a launcher
says that there are several processes, they have to talk to each other (``ranks.join``), or they would all do the same
and write the same files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

#: rank and number of processes, as launchers name them: Open MPI; MPICH, Intel MPI and `srun --mpi=pmi2`; MVAPICH;
#: `srun --mpi=pmix`, where a job's shell has the second, but not the first
VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
)


class Launch(NamedTuple):
    """What a launcher says of this process: it is number ``rank``, from 0, of ``size``."""

    rank: int
    size: int


def launched(environ: Mapping[str, str] = os.environ) -> Launch | None:
    """Return what the launcher says; None if there was none, or it started one process only.

    Parameters
    ----------
    environ : mapping
        Environment variables.
    """
    for rank, size in VARIABLES:
        texts = environ.get(rank, ""), environ.get(size, "")
        if all(text.isdecimal() for text in texts) and int(texts[1]) > 1:
            return Launch(int(texts[0]), int(texts[1]))
    return None
