"""What a process sets before it computes: compile cache, memory, the cluster it belongs to."""

import ctypes
import os
import sys
from pathlib import Path

import jax
import numpy as np

_CLUSTERS = {
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
}
"""What srun and mpirun tell a process: how many there are, and which one it is."""

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""


def start() -> None:
    """Sets jax up for a run; call it before anything asks for a device."""
    keep_compiled_programs()
    keep_freed_memory()
    if _place()[1] > 1 and not jax.distributed.is_initialized():
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize()


def is_main_process() -> bool:
    """Is this the process that writes files and speaks to the user?"""
    return _place()[0] == 0


def agree_on_signal(number: int) -> int:
    """The signal that came to any process of the job: all must stop at the same step."""
    if jax.process_count() == 1:
        return number
    from jax.experimental.multihost_utils import process_allgather

    return int(np.max(process_allgather(np.int32(number))))


def _place() -> tuple[int, int]:
    """This process's number among how many; jax need not have started."""
    for size, rank in _CLUSTERS.items():
        if size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


def keep_compiled_programs() -> None:
    """Keeps compiled programs in the user's cache folder, unless jax was told where to."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "jtl" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def keep_freed_memory() -> None:
    """Lets glibc keep freed memory for the next step instead of returning it to the system.

    On a CPU a step's scratch space is allocated anew at every step. Above 32 MB glibc maps it from
    the system each time, page by page: 1.3 times the whole digits step where faults are dear.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
