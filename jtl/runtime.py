"""What a process sets before it computes: the compile cache, and the cluster it belongs to."""

import os
from pathlib import Path

import jax

_CLUSTER_SIZES = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")


def start() -> None:
    """Sets jax up for a run; call it before anything asks for a device."""
    keep_compiled_programs()
    join_cluster()


def keep_compiled_programs() -> None:
    """Keeps compiled programs in the user's cache folder, unless jax was told where to."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "jtl" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def join_cluster() -> None:
    """Joins the other processes of this job, where a launcher started several."""
    if max(int(os.environ.get(name, "1")) for name in _CLUSTER_SIZES) > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize()
