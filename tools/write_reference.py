"""Writes docs/reference.md: each public loss, metric and score, by its signature and first line.

python tools/write_reference.py
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from jtl import losses, metrics, transferability

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"
SECTIONS = {losses: "Losses", metrics: "Metrics", transferability: "Transferability scores"}
HEAD = """# Reference

What can be imported, by `from jtl import losses, metrics, transferability`. Shapes, units, errors,
papers and an example are in the docstrings: `help(losses.mmd)`. `python tools/write_reference.py`
writes this page from them. Validators have [a page of their own](validators.md).
"""


def reference() -> str:
    """The page."""
    parts = [HEAD]
    for module, title in SECTIONS.items():
        rows = "\n".join(_rows(module))
        parts.append(f"## {title}\n\n| `jtl.{_name(module)}` | |\n|---|---|\n{rows}\n")
    return "\n".join(parts)


def _rows(module: ModuleType) -> Iterator[str]:
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isfunction(value):
            first = (inspect.getdoc(value) or "").partition("\n")[0]
            plain = re.sub(r":\w+:(?=`)", "", first).replace("|", "\\|")
            yield f"| `{name}{_signature(value)}` | {plain} |"


def _signature(function: object) -> str:
    """Without types; what may be left out has its default, masks and axis names are left out."""
    parts, keyword_only = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name.endswith("where") or parameter.name == "axis_name":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            parts.append("*")
            keyword_only = True
        default = parameter.default
        known = "" if default is parameter.empty else f"={default!r}"
        parts.append(parameter.name + known)
    return f"({', '.join(parts)})"


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
