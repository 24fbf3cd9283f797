"""This process's place in a job: how many processes there are, and which one it is.

Read from the environment alone, so that a mistake in a command is said once, without JAX.
"""

import os
from typing import NamedTuple


class Place(NamedTuple):
    """A process of a job."""

    size: int = 1
    """How many processes the job has."""
    rank: int = 0
    """Which one this is."""
    local: int | None = None
    """Which one of its machine's it is; None where the launcher does not say."""
    known_to_jax: str | None = None
    """The name under which jax finds the others by itself; None if it must be told."""


_MPI = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),  # Open MPI
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),  # MVAPICH2
    ("PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID"),  # MPICH and Intel MPI
)
_COLLECTIVES = ("Gloo", "NCCL", "CoordinationService", "heartbeat", "Connection reset by peer")
"""Words of the libraries that carry arrays between processes."""
_SLURM = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID")


def place() -> Place:
    """Where this process stands; alone if no launcher says otherwise."""
    slurm = _read(*_SLURM)
    for names in _MPI:
        found = _read(*names)
        # mpirun may itself have been started by srun, once a machine. Under srun alone the
        # variables of PMI repeat what Slurm says.
        if found and not (slurm and found[:2] == slurm[:2]):
            # As jax has it: Open MPI 5 no longer sets this one.
            known = found and names is _MPI[0] and "OMPI_MCA_orte_hnp_uri" in os.environ
            return found._replace(known_to_jax="ompi" if known else None)
    return slurm._replace(known_to_jax="slurm") if slurm else Place()


def is_main() -> bool:
    """Is this the process that speaks to the user?"""
    return place().rank == 0


def is_loss(error: Exception) -> bool:
    """Does an error of JAX's say that another process cannot be reached any more?"""
    said = str(error)
    return isinstance(error, RuntimeError) and any(word in said for word in _COLLECTIVES)


def _read(size: str, rank: str, local: str) -> Place | None:
    if size not in os.environ or rank not in os.environ:
        return None
    which = os.environ.get(local)
    return Place(int(os.environ[size]), int(os.environ[rank]), int(which) if which else None)
