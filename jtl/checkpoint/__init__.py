"""Checkpoints of a run: written while training goes on, whole or not at all, and checked when read.

A run's folder holds one folder per kept step::

    checkpoints/1200/state/    the arrays, in Orbax's format
    checkpoints/1200/record/   every leaf's name, shape, dtype and checksum; the score
    checkpoints/corrupt/       checkpoints that could not be read, set aside

Only ``storage`` knows Orbax.
"""

from jtl.checkpoint.series import Checkpoints

__all__ = ["Checkpoints"]
