"""Memory, measured: what is free of a device, of the machine and of a job's part; what was held."""

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.sharding import Mesh

NEIGHBOURS = "JTL_NEIGHBOURS"
"""Environment: how many processes share the machine with this one, itself included."""
_MACHINE = Path("/proc/meminfo")
_GROUPS, _OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def free(devices: Mesh) -> int:
    """Bytes that each of the devices has left for this process."""
    statistics = devices.devices.flat[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    processes = int(os.environ.get(NEIGHBOURS, "1"))
    return of_host() // (devices.size * processes)


def of_host() -> int:
    """Bytes that this process and its neighbours may still take of the machine's memory."""
    return min([_of_machine(), *_of_groups()])


def peak() -> dict[str, int]:
    """The most that this process has held so far, programs that were compiled among it.

    Returns:
      ``host``, what was resident at once; where devices have memory of their own and count it,
      ``device``, that of the one which held most.
    """
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Of bytes on macOS, of KiB elsewhere.
    found = {"host": resident if sys.platform == "darwin" else 1024 * resident}
    counted = [device.memory_stats() or {} for device in jax.local_devices()]
    held = [counts["peak_bytes_in_use"] for counts in counted if "peak_bytes_in_use" in counts]
    return found | ({"device": max(held)} if held else {})


def _of_machine() -> int:
    """What is free; all that there is where the system does not say so in a file (macOS)."""
    if not _MACHINE.exists():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = _MACHINE.read_text().splitlines()
    (available,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return 1024 * int(available)


def _of_groups() -> Iterator[int]:
    """What containers and batch systems leave of it: they limit groups of processes."""
    try:
        own = _OWN_GROUP.read_text().rpartition("::")[2].strip("/\n")
    except OSError:
        return
    for group in (_GROUPS / own, *(_GROUPS / own).parents):
        try:
            limit, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        except OSError:
            continue
        if limit.strip() != "max":
            yield max(0, int(limit) - int(used))
