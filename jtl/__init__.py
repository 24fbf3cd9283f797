"""jtl: transfer learning in JAX. Probe, fine-tune and adapt pretrained backbones."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jtl.models.torch_module import from_torch as from_torch

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Loads ``from_torch`` when it is asked for: without it, jtl is imported before JAX."""
    if name == "from_torch":
        return importlib.import_module("jtl.models.torch_module").from_torch
    raise AttributeError(f"module 'jtl' has no attribute {name!r}")
