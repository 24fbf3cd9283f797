"""What a process sets before it computes, and how the processes of a job stay together."""

import ctypes
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jtl.devices import cluster
from jtl.errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""
_DEVICES, _FORCED = "jax_num_cpu_devices", "xla_force_host_platform_device_count"
"""How many devices a CPU is, by jax's setting and by the older one among XLA's flags."""
_SILENCE = 30
"""Seconds after which a process that says nothing is taken for dead, and its job ends."""
PATIENCE = 300
"""Seconds in which the processes of a job must have met."""
_LONGEST_MESSAGE = 2000
"""Bytes of an error that the other processes are told."""


def start() -> None:
    """Sets jax up for a run and joins the job; call it before anything asks for a device.

    Raises:
      UserError: there are other processes, and nothing says where to meet them.
    """
    keep_compiled_programs()
    keep_freed_memory()
    if not jax.distributed.is_initialized():
        _join(cluster.place())


def _join(place: cluster.Place) -> None:
    if place.size == 1:
        if _on_tpu_pod():
            _join_tpu_pod()
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if place.known_to_jax:
        _meet(place, cluster_detection_method=place.known_to_jax)
    elif place.coordinator:
        # One accelerator a process, as jax does it under the launchers that it knows.
        own = None if place.local is None else [place.local]
        _meet(
            place,
            coordinator_address=place.coordinator,
            num_processes=place.size,
            process_id=place.rank,
            local_device_ids=None if "JAX_LOCAL_DEVICE_IDS" in os.environ else own,
            cluster_detection_method="deactivate",
        )
    else:
        raise UserError(
            f"this is one of {place.size} processes, and jax cannot tell where they meet; set "
            f"{cluster.COORDINATOR}=HOST:PORT for all of them, HOST being the machine of process "
            "0 and PORT a free one there"
        )


def _meet(place: cluster.Place, **told: Any) -> None:
    # Whatever keeps processes from meeting, jax aborts with the stack of its C++ when it gives up.
    impatient = threading.Timer(PATIENCE, _give_up, (place,))
    impatient.daemon = True
    impatient.start()
    try:
        jax.distributed.initialize(
            initialization_timeout=round(2 * PATIENCE), heartbeat_timeout_seconds=_SILENCE, **told
        )
    except jax.errors.JaxRuntimeError as error:
        if "Failed to start RPC server" not in str(error):
            raise
        raise UserError(
            f"{cluster.COORDINATOR}={place.coordinator}: process 0 cannot listen on this port; "
            "give another one to all processes"
        ) from error
    finally:
        impatient.cancel()


def _give_up(place: cluster.Place) -> None:
    """Ends this process, which the main thread cannot while it waits inside of jax."""
    said = f"jtl: error: process {place.rank} of {place.size}: {_missed(place.coordinator)}"
    os.write(2, f"{said} (waited {PATIENCE:g} seconds)\n".encode())
    os._exit(2)


def _missed(address: str | None) -> str:
    """Why processes have not met, as far as can be seen from here."""
    if address is None:
        return f"not all processes came; {cluster.COORDINATOR}=HOST:PORT says where they meet"
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except socket.gaierror:
        return f"{cluster.COORDINATOR}={address}: no machine of this name is known here"
    except OSError as error:
        why = error.strerror or error
        return f"{cluster.COORDINATOR}={address}: process 0 cannot be reached there ({why})"
    return f"{cluster.COORDINATOR}={address}: not all processes came"


def _join_tpu_pod() -> None:
    try:
        _meet(cluster.Place())
    except Exception as error:  # of requests, sockets or jax, as the network has it
        raise UserError(
            f"the machines of this TPU cannot be found ({type(error).__name__}: {error}); if there "
            "are no others, set TPU_SKIP_MDS_QUERY=1"
        ) from error
    cluster.joined(jax.process_count(), jax.process_index())


def _on_tpu_pod() -> bool:
    """Does a TPU have more machines than this one, or may it? Goes by what jax goes by."""
    if "tpu" not in (jax.config.values["jax_platforms"] or ""):  # jax sets it where it finds a TPU
        return False
    hosts = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES")
    if hosts:
        return "," in hosts or int(os.environ.get("MEGASCALE_NUM_SLICES", "1")) > 1
    # Google's machines have a server to ask, which jax does.
    return "TPU_SKIP_MDS_QUERY" not in os.environ


@cache
def split_cores() -> int:
    """Makes each core of a CPU a device, for work that falls into parts; before any is asked for.

    An operation on small arrays costs less than what it takes two cores to share it: they get
    through 32 runs 1.4 times as fast if either has 16 of them (benchmarks/README.md). What is one
    piece should keep to one device (``devices=1``), which uses all cores.

    Returns:
      How many they are; 1 where nothing was split, as there is an accelerator or a job of several
      processes, or the user has said how many devices a CPU is.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    told = _FORCED in os.environ.get("XLA_FLAGS", "") or jax.config.values[_DEVICES] > 0
    if told or cores == 1 or jax.distributed.is_initialized():
        return 1
    try:
        jax.config.update(_DEVICES, cores)
    except RuntimeError:  # this process has computed before
        return 1
    return cores if jax.default_backend() == "cpu" else 1


def is_main_process() -> bool:
    """Is this the process that writes files and speaks to the user?"""
    return jax.process_index() == 0 if jax.distributed.is_initialized() else cluster.is_main()


def largest(*values: float) -> tuple[float, ...]:
    """Each value's largest over the processes of the job, so that all decide alike on it."""
    if not jax.distributed.is_initialized():
        return values
    return tuple(_gathered(np.asarray(values, np.float32)).max(axis=0).tolist())


@contextmanager
def together() -> Iterator[None]:
    """What all processes of a job get through, or none: the others do not wait for one that fails.

    Raises:
      UserError: that of the first process that raised one, in all of them.
    """
    if not jax.distributed.is_initialized():
        yield
        return
    failure = None
    try:
        yield
    except _HeardError:  # in `all_agree`, where the others are too
        raise
    except Exception as error:
        failure = error
    heard, _ = _told_each_other(failure)
    if heard and (failure is None or isinstance(failure, UserError)):
        raise UserError(heard) from failure
    if failure is not None:
        raise failure


def all_agree(answer: bool) -> bool:
    """Whether every process of the job says yes; call it within :func:`together`.

    Returns when all have come, or raises what another one has failed with on its way.
    """
    if not jax.distributed.is_initialized():
        return answer
    heard, agreed = _told_each_other(None, answer)
    if heard:
        raise _HeardError(heard)
    return agreed


class _HeardError(UserError):
    """The failure of another process, of which no process need be told."""


def _told_each_other(failure: Exception | None, answer: bool = True) -> tuple[str, bool]:
    """The first failure of any process, "" if there is none, and whether all say yes."""
    said = bytes([answer]) + _told(failure)
    answers, *texts = np.split(_gathered(np.frombuffer(said, np.uint8)), (1,), axis=1)
    heard = (row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in texts[0])
    return next(filter(None, heard), ""), bool(answers.all())


def _told(failure: Exception | None) -> bytes:
    """What the other processes hear of a failure, always as many bytes."""
    text = "" if failure is None else str(failure)
    if failure is not None and not isinstance(failure, UserError):
        text = f"process {jax.process_index()} stopped: {type(failure).__name__}: {failure}"
    return text.encode()[:_LONGEST_MESSAGE].ljust(_LONGEST_MESSAGE, b"\0")


def _gathered(values: np.ndarray) -> np.ndarray:
    """The values of every process, along a new first axis."""
    from jax.experimental.multihost_utils import process_allgather

    return np.asarray(process_allgather(values))


def only_written_transfers() -> AbstractContextManager[None]:
    """Within it, what moves between host and device without ``device_put`` is an error.

    Such copies are how a step gets slow unseen.
    """
    # jax looks for a NaN by running a step operation by operation, with constants from the host.
    return jax.transfer_guard("allow" if jax.config.values["jax_debug_nans"] else "disallow")


def keep_compiled_programs() -> None:
    """Keeps compiled programs in the user's cache folder, unless jax was told where to."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "jtl" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def keep_freed_memory() -> None:
    """Lets glibc keep freed memory for the next step instead of returning it to the system.

    On a CPU a step's scratch space is allocated anew at every step, by the thread that runs it.
    glibc maps it from the system each time, page by page, where it is above 32 MB; and whatever it
    is told, where it is above 64 MB and the thread is not the main one, whose heap alone can grow.
    So large blocks are not mapped, nothing is trimmed, and steps run in the thread that asks for
    them: ViT-S/16 then trains 1.4 times as fast (``benchmarks/allocator.py``). One heap for all
    threads would do too, but their small blocks settle in the gaps and a step's does not fit again.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
