"""The shape of the code: imports point one way, few modules know a config, everything is short."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A module may import those on the lines above its own, and its own package. A new module needs a
# place here.
LAYERS = (
    ("errors", "types", "ranges"),
    ("catalogue", "atomic"),
    (
        "registry",
        "losses",
        "schedules",
        "partition",
        "metrics",
        "sharding",
        "log",
        "memory",
        "manifest",
        "cluster",
        "cache",
    ),
    (
        "transferability",
        "relationship",
        "attention",
        "validators",
        "checkpoint",
        "runtime",
        "interrupt",
        "inference",
        "store",
        "workdir",
        "attempts",
        "execution",
        "probing",
    ),
    (
        "models",
        "data",
        "accumulation",
        "forward",
        "optimizers",
        "selection",
        "plots",
        "report",
        "status",
    ),
    ("methods", "step", "features", "evaluate"),
    ("monitor", "network", "interpolation", "card", "fits"),
    ("trained", "layers"),
    ("answers", "export"),
    ("overrides", "defaults"),
    ("checks",),
    ("configuration",),
    ("build", "probes"),
    ("prepare",),
    ("pool", "page", "probed"),
    ("conclude",),
    ("train", "lanes"),
    ("chunk", "study", "processes"),
    ("plan",),
    ("claims",),
    ("worker", "on_ray"),
    ("workers",),
    ("ranking",),
    ("commands",),
    ("arguments",),
    ("cli",),
    ("__init__", "__main__"),
)
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}

# The only modules that know what a config is; everything else takes keywords.
READ_CONFIGS = {
    "overrides",
    "defaults",
    "checks",
    "configuration",
    "probes",
    "build",
    "prepare",
    "lanes",
    "train",
    "study",
    "plan",
    "workers",
    "ranking",
    "commands",
    "arguments",
    "cli",
}

# Needs no JAX, so that a mistake in a config is reported at once.
LIGHT = (
    "errors",
    "ranges",
    "cache",
    "catalogue",
    "cluster",
    "registry",
    "overrides",
    "defaults",
    "checks",
    "configuration",
    "probes",
    "commands",
    "arguments",
    "cli",
    "__init__",
    "__main__",
)

MODULES = sorted((ROOT / "jtl").rglob("*.py"))
SOURCES = [
    path
    for folder in ("jtl", "configs", "experiments", "benchmarks", "tools")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def unit(path: Path) -> str:
    """The module or package of jtl that a file belongs to."""
    return path.relative_to(ROOT / "jtl").with_suffix("").parts[0]


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that a file imports, late ones included; not what only annotations need."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "jtl":
            yield from (f"jtl.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        else:
            yield from imports(node)


def imported_units(path: Path) -> set[str]:
    names = {name for name in imports(parsed(path)) if name.startswith("jtl.")}
    return {name.split(".")[1] for name in names}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_imports_point_upward() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {other}"
        for path in MODULES
        for other in imported_units(path) - {unit(path)}
        if LEVEL.get(other, 99) >= LEVEL.get(unit(path), -1)
    ]
    assert not wrong


def test_every_layer_names_modules_that_exist() -> None:
    assert set(LEVEL) == {unit(path) for path in MODULES}


def test_only_the_outer_modules_know_a_config() -> None:
    config = {"jtl.overrides", "jtl.defaults", "jtl.checks", "jtl.configuration", "ml_collections"}
    know = {unit(path) for path in MODULES if config & set(imports(parsed(path)))}
    assert know <= READ_CONFIGS


@pytest.mark.parametrize("name", LIGHT)
def test_what_reads_the_command_line_imports_no_jax(name: str) -> None:
    body = parsed(ROOT / "jtl" / f"{name}.py").body
    # What cli imports inside a function comes after every check.
    outside = [node for node in body if not isinstance(node, ast.FunctionDef)]
    heavy = {"jax", "numpy", "flax", "optax", "jtl.types", "jtl.train", "jtl.study", "jtl.build"}
    assert not heavy & set(imports(ast.Module(outside, [])))


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert not {str(path): lines for path, lines in lengths.items() if lines > 300}


def test_functions_are_short() -> None:
    long = {}
    for path in SOURCES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef) and code_lines(node) > 60:
                long[f"{path.relative_to(ROOT)}:{node.lineno}"] = code_lines(node)
    assert not long


def test_methods_are_short() -> None:
    """At most 60 lines, but for docstrings and what is blank."""
    long = {}
    for path in sorted((ROOT / "jtl" / "methods").glob("*.py")):
        texts = [node for node in ast.walk(parsed(path)) if is_text(node)]
        described = {n for node in texts for n in range(node.lineno, (node.end_lineno or 0) + 1)}
        lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        written = sum(number not in described for number, line in lines if line.strip())
        if written > 60:
            long[path.name] = written
    assert not long


def is_text(node: ast.AST) -> TypeGuard[ast.Expr]:
    """A docstring, of whatever it is."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def code_lines(function: ast.FunctionDef) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("name", ["cpu", "cuda", "tpu", "dev"])
def test_every_locked_package_has_hashes(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = [entry for entry in text.split("\n") if entry and entry[0].isalnum()]
    assert len(entries) > 50
    assert all("==" in entry and entry.endswith("\\") for entry in entries)
    assert text.count("--hash=sha256:") > len(entries)


def test_installation_names_no_address() -> None:
    names = ("pyproject.toml", "launch.sh", ".ci/run", ".pre-commit-config.yaml")
    files = [ROOT / name for name in names] + list((ROOT / "requirements").glob("*.txt"))
    assert len(files) == 9
    for file in files:
        assert "://" not in file.read_text(), file
