"""The oracle: supervised training on the target's own labels.

What adaptation could reach at best with this model; never a result of adaptation.
"""

import dataclasses

from jtl.methods.supervised import supervised
from jtl.types import Method


def target_supervised() -> Method:
    """Minimises the task loss on labelled target examples, and says so."""
    return dataclasses.replace(supervised(), oracle=True)
