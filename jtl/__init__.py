"""jtl: transfer learning in JAX. Probe, fine-tune and adapt pretrained backbones."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jtl.deployment.trained import load as load
    from jtl.models.torch_module import from_torch as from_torch

__version__ = "0.1.0"
_LATE = {"from_torch": "jtl.models.torch_module", "load": "jtl.deployment.trained"}


def __getattr__(name: str) -> Any:
    """Imports what starts JAX when it is asked for: a mistake in a command is told before."""
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module 'jtl' has no attribute {name!r}")
