"""This process's place in a job: how many processes there are, and which one it is.

Read from the environment alone, so that a mistake in a command is said once, without JAX.
"""

import os
from typing import NamedTuple

from jtl.errors import UserError


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
    coordinator: str | None = None
    """Where they meet, as HOST:PORT; None where the user does not say."""


COORDINATOR, PROCESSES, PROCESS = "JTL_COORDINATOR", "JTL_PROCESSES", "JTL_PROCESS"
"""Variables of the environment: where processes meet, how many there are, and which one this is."""
BY_HAND = (COORDINATOR, PROCESSES, PROCESS)
_MPI = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),  # Open MPI
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),  # MVAPICH2
    ("PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID"),  # MPICH and Intel MPI
)
_COLLECTIVES = ("Gloo", "NCCL", "CoordinationService", "heartbeat", "Connection reset by peer")
"""Words of the libraries that carry arrays between processes."""
_SLURM = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID")
_joined: Place | None = None


def place() -> Place:
    """Where this process stands; alone if neither the user nor a launcher says otherwise.

    What the user says comes first.

    Raises:
      UserError: the user says part of it, or what cannot be.
    """
    address, by_hand = os.environ.get(COORDINATOR), {PROCESSES, PROCESS} & set(os.environ)
    found = _by_hand() if by_hand else _joined or _launched()
    if not address:
        return found
    if not by_hand and found.size == 1:
        raise _incomplete()
    _check_address(address)
    return found._replace(known_to_jax=None, coordinator=address)


def joined(size: int, rank: int) -> None:
    """Says what nothing in the environment does: the machines of a TPU find each other."""
    global _joined
    _joined = Place(size, rank)


def _by_hand() -> Place:
    if not all(os.environ.get(name) for name in BY_HAND):
        raise _incomplete()
    size = _number(PROCESSES, "how many processes there are, from 1")
    rank = _number(PROCESS, "which process this is, from 0")
    if not size:
        raise UserError(f"{PROCESSES} is 0; it is how many processes there are, from 1")
    if rank >= size:
        raise UserError(f"{PROCESS} is {rank}; with {PROCESSES}={size} it is from 0 to {size - 1}")
    return Place(size, rank)


def _number(name: str, meaning: str) -> int:
    said = os.environ[name]
    if not (said.isascii() and said.isdecimal()):
        raise UserError(f"{name} is {said!r}; it is {meaning}")
    return int(said)


def _incomplete() -> UserError:
    there = [name for name in BY_HAND if os.environ.get(name)]
    absent = [name for name in BY_HAND if name not in there]
    return UserError(
        f"{' and '.join(absent)} not set beside {' and '.join(there) or 'empty ones'}; a process "
        f"that is started by hand needs all three of {', '.join(BY_HAND)}"
    )


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    digits = port.isascii() and port.isdecimal()
    if not (host and digits and 0 < int(port) < 2**16):
        raise UserError(
            f"{COORDINATOR} is {address!r}; write HOST:PORT, HOST being the machine of process 0 "
            "and PORT a free one there"
        )


def _launched() -> Place:
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
    """Is this the process that speaks to the user? All are, where nobody can know."""
    try:
        return place().rank == 0
    except UserError:
        return True


def is_loss(error: Exception) -> bool:
    """Does an error of JAX's say that another process cannot be reached any more?"""
    said = str(error)
    return isinstance(error, RuntimeError) and any(word in said for word in _COLLECTIVES)


def _read(size: str, rank: str, local: str) -> Place | None:
    if size not in os.environ or rank not in os.environ:
        return None
    which = os.environ.get(local)
    return Place(int(os.environ[size]), int(os.environ[rank]), int(which) if which else None)
