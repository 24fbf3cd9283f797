"""The shape of the code: imports point one way, few modules know a config, everything is short."""

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A module may import those on the lines above its own, and its own package. A new module needs a
# place here.
LAYERS = (
    ("errors", "types", "ranges"),
    ("catalogue", "devices"),
    ("registry", "losses", "schedules", "partition", "metrics"),
    (
        "records",
        "transferability",
        "relationship",
        "attention",
        "validators",
        "checkpoint",
        "probing",
    ),
    ("models", "data", "plots"),
    ("methods", "frozen"),
    ("training",),
    ("deployment",),
    ("defaults",),
    ("configuration",),
    ("runs",),
    ("probes", "studies"),
    ("shell",),
    ("__init__", "__main__"),
)
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}

# The only packages that know what a config is; everything else takes keywords.
READ_CONFIGS = {"defaults", "configuration", "runs", "probes", "studies", "shell"}

# Reads a command line and a config, and needs no JAX, so that a mistake is reported at once.
LIGHT = ("jtl.__main__", "jtl.shell.cli", "jtl.configuration", "jtl.probes.compared")

MODULES = sorted((ROOT / "jtl").rglob("*.py"))
SOURCES = [
    path
    for folder in ("jtl", "configs", "experiments", "benchmarks", "tools")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def module(path: Path) -> str:
    """The name that a file is imported by."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module(path): path for path in MODULES}


def unit(name: str) -> str:
    """The package of jtl that a module belongs to, or the module itself."""
    return name.split(".")[1] if name != "jtl" else "__init__"


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that a file imports, late ones included; not what only annotations need."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in FILES else node.module or "" for name in inside)
        else:
            yield from imports(node)


def imported(path: Path) -> set[str]:
    """Of jtl's modules."""
    return {name for name in imports(parsed(path)) if name in FILES and name != "jtl"}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_imports_point_upward() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, path in FILES.items()
        for other in imported(path)
        if unit(other) != unit(name) and LEVEL.get(unit(other), 99) >= LEVEL.get(unit(name), -1)
    ]
    assert not wrong


def test_no_module_imports_itself_through_others() -> None:
    order = graphlib.TopologicalSorter({name: imported(path) for name, path in FILES.items()})
    assert set(order.static_order()) >= set(FILES)  # a circle raises


def test_every_layer_names_packages_and_modules_that_exist() -> None:
    assert set(LEVEL) == {unit(name) for name in FILES}


def test_only_the_outer_packages_know_a_config() -> None:
    config = ("jtl.defaults", "jtl.configuration", "ml_collections")
    know = {
        unit(name)
        for name, path in FILES.items()
        if any(other.startswith(config) for other in imports(parsed(path)))
    }
    assert know <= READ_CONFIGS


@pytest.mark.parametrize("name", LIGHT)
def test_what_reads_the_command_line_imports_no_jax(name: str) -> None:
    heavy = {"jax", "numpy", "flax", "optax"}
    seen, found = set(), {name}
    while found - seen:
        other = (found - seen).pop()
        seen.add(other)
        # What is imported inside a function comes after every check.
        body = [node for node in parsed(FILES[other]).body if not isinstance(node, ast.FunctionDef)]
        named = set(imports(ast.Module(body, [])))
        assert not heavy & named, other
        packages = {each.rsplit(".", depth)[0] for each in named for depth in range(1, 4)}
        found |= (named | packages) & set(FILES)
    assert len(seen) > 1


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
