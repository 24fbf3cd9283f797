"""The most memory that a process has held, in bytes."""

import resource
import sys

import jax


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
