"""Programs of the tests compile in a tenth of the time: they are small, and run once or twice.

Processes that tests start compile as they do for a user, but those of :class:`small_runs.Process`,
which does so where it is asked to.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax._src import compiler  # jax has no public setting for all programs of a process

UNOPTIMIZED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
KERNELS = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
"""As XLA wrote them before MLIR. Large programs of many devices have been seen to wait for each
other forever under them, so those keep the newer ones unless a test asks for these."""


class Options(NamedTuple):
    """For the compiler: of every program, and of those of one device."""

    every: dict[str, Any]
    single: dict[str, Any]


installed: Options | None = None
_quick_everywhere = False


@contextlib.contextmanager
def small_programs() -> Iterator[None]:
    """Programs of many devices get these kernels too; for tests that have small ones alone."""
    global _quick_everywhere
    _quick_everywhere = True
    yield
    _quick_everywhere = False


def known() -> Options:
    """Those of the options that this XLA has."""
    return Options(
        *({n: v for n, v in o.items() if _is_known(n, v)} for o in (UNOPTIMIZED, KERNELS))
    )


def _is_known(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def install(options: Options) -> None:
    """Gives every program compiled from now on these options, below those of its own."""
    global installed
    installed, standard = options, compiler.get_compile_options

    def quick(num_replicas: int, num_partitions: int, *args: Any, **settings: Any) -> Any:
        alone = num_replicas * num_partitions == 1
        chosen = options.every | (options.single if alone or _quick_everywhere else {})
        settings["env_options_overrides"] = chosen | (settings["env_options_overrides"] or {})
        return standard(num_replicas, num_partitions, *args, **settings)

    compiler.get_compile_options = quick
