"""What every test runs under: eight simulated devices, and jax's guards against silent mistakes."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# The environment rather than jax's settings: tests that start jtl as a process inherit it, and so
# do the workers of pytest-xdist, so that a program is compiled once for the whole session.
_CACHE = "JAX_COMPILATION_CACHE_DIR"
_OWNED = None if _CACHE in os.environ else tempfile.mkdtemp(prefix="jtl-test-compiled-")
if _OWNED:
    os.environ[_CACHE] = _OWNED
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# What frozen blocks give is kept by the tests alone whose subject it is, in folders of their own.
os.environ["JTL_CACHE_LIMIT"] = "0"
# Programs without the lines of Python that they come from are written in less time.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis  # noqa: E402 (after the environment that jax reads)
import jax  # noqa: E402 (the same)
import kept as store_of_a_test  # noqa: E402 (the same)
import pytest  # noqa: E402 (the same)
import quick_compiles  # noqa: E402 (the same)
from jax.sharding import AxisType  # noqa: E402 (the same)

from jtl import catalogue, registry  # noqa: E402 (the same)
from jtl.devices import sharding  # noqa: E402 (the same)
from jtl.runs import page  # noqa: E402 (the same)

DEVICES = 8

# A shell starts what it runs in the background deaf to SIGINT, and so would be the processes that
# tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_num_cpu_devices", DEVICES)
# Shapes that only broadcast by chance, and keys that are bare integers, are mistakes.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")
jax.config.update("jax_default_matmul_precision", "float32")

quick_compiles.install(quick_compiles.known())

hypothesis.settings.register_profile("jtl", deadline=None, max_examples=20, derandomize=True)
hypothesis.settings.load_profile("jtl")


LONGEST = ("resume", "study", "lanes", "train", "registered", "conformance", "every_loss")
"""Files of tests that begin first, so that no worker is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders the files of tests."""
    longest = [f"test_{name}.py" for name in LONGEST]
    items.sort(key=lambda item: item.path.name not in longest)


@pytest.fixture
def registered() -> Iterator[None]:
    """The names of :func:`small_runs.register`, in this test alone."""
    import small_runs

    tables = [*registry.KINDS.values(), catalogue.METHODS]
    before = [dict(table) for table in tables]
    small_runs.register()
    yield
    for table, names in zip(tables, before, strict=True):
        for name in set(table) - set(names):
            del table[name]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes the session's compiled programs; workers leave them to the process they belong to."""
    if _OWNED and not hasattr(config, "workerinput"):
        shutil.rmtree(_OWNED, ignore_errors=True)


@pytest.fixture
def root() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[store_of_a_test.Kept]:
    """What frozen blocks give is kept in a folder of the test."""
    with store_of_a_test.keeping(tmp_path / "cache") as made:
        yield made


@pytest.fixture
def small_programs() -> Iterator[None]:
    """A test's programs of many devices are small, and compile as those of one device do."""
    with quick_compiles.small_programs():
        yield


@pytest.fixture(scope="module")
def one_device() -> Iterator[Callable[..., Any]]:
    """Runs use one of the devices, where eight are not the subject: twice as quick.

    The value is what gives all of them otherwise.
    """
    every, alone = sharding.mesh, jax.make_mesh((1,), (sharding.AXIS,), axis_types=(AxisType.Auto,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "mesh", lambda count=0: alone)
        yield every


@pytest.fixture(scope="module")
def without_pictures() -> Iterator[Callable[..., Any]]:
    """Reports of runs have no pictures: drawing them takes longer than a small run.

    The value is what draws them otherwise.
    """
    drawing = page.pictures
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "pictures", lambda *_: ())
        yield drawing
