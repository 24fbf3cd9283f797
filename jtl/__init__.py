"""jtl: transfer learning in JAX. Probe, fine-tune and adapt pretrained backbones."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jtl.trained import Trained

__version__ = "0.1.0"


def load(place: str | os.PathLike[str]) -> "Trained":
    """The model of a finished run, ready to predict: see :func:`jtl.trained.load`."""
    from jtl import trained  # late: it starts JAX, which takes seconds

    return trained.load(place)
