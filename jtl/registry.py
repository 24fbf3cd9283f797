"""The names that a config may use, and where each lives. A new method, kind of data or kind of
backbone is one line here.

The entries are strings, so that a misspelt name is reported before JAX is imported.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from jtl.errors import UserError, nearest

METHODS: Mapping[str, str] = {
    "supervised": "jtl.methods.supervised:supervised",
    "target_supervised": "jtl.methods.target_supervised:target_supervised",
    "dann": "jtl.methods.dann:dann",
}
"""``method.name`` to the factory of a :class:`jtl.types.Method`."""

DATA: Mapping[str, str] = {
    "embedded": "jtl.data.embedded:load",
    "folder": "jtl.data.folder:load",
    "arrays": "jtl.data.arrays:load",
    "tfds": "jtl.data.tfds:load",
}
"""The part of ``data.source`` and ``data.target`` before the colon."""

BACKBONES: Mapping[str, str] = {
    "package": "jtl.models.zoo:package",
    "run": "jtl.models.saved:backbone",
    "random": "jtl.models.zoo:random",
    "features": "jtl.models.zoo:vectors",
}
"""The part of ``model.backbone`` before the colon."""

KINDS: Mapping[str, Mapping[str, str]] = {
    "method": METHODS,
    "data": DATA,
    "backbone": BACKBONES,
}


def require(kind: str, name: str, where: str) -> str:
    """The entry of a name, without importing it.

    Args:
      kind: "method", "data" or "backbone".
      name: what the user wrote.
      where: the config key that holds it, for the message.

    Raises:
      UserError: no such name; the nearest ones are in the message.
    """
    table = KINDS[kind]
    if name not in table:
        raise UserError(f"{where}: unknown {kind} {name!r}; {nearest(name, table)}")
    return table[name]


def resolve(kind: str, name: str, where: str = "") -> Callable[..., Any]:
    """Imports what a name stands for."""
    module, _, attribute = require(kind, name, where or kind).partition(":")
    return getattr(importlib.import_module(module), attribute)


def split(kind: str, reference: str, where: str) -> tuple[str, str]:
    """Takes ``prefix:rest`` apart.

    >>> split("data", "folder:photos/real", "data.source")
    ('folder', 'photos/real')

    Raises:
      UserError: no colon, nothing after it, or an unknown prefix.
    """
    prefix, colon, rest = reference.partition(":")
    if not colon and prefix not in KINDS[kind]:
        forms = ", ".join(f"{name}:..." for name in KINDS[kind])
        raise UserError(f"{where}: {reference!r} does not say what kind it is; write {forms}")
    require(kind, prefix, where)
    if not rest:
        raise UserError(f"{where}: {reference!r} names nothing after the colon")
    return prefix, rest
