"""A run compiles its step once, and nothing twice: not at a later stretch, evaluation or batch."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import small_runs as runs
import test_execution as steps
from ml_collections import ConfigDict

from jtl.devices import runtime
from jtl.runs import train

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")

RUN = {"loop", "one", "step", "init", "run", "all_finite"}
"""The programs of a run, by the names of their functions."""

Compiled = Callable[[], Counter[tuple[str, str]]]


@pytest.fixture
def compiled(caplog) -> Compiled:
    """What was compiled since this was last asked: name and shapes."""

    def read() -> Counter[tuple[str, str]]:
        messages = [r.getMessage() for r in caplog.records]
        caplog.clear()
        parts = [
            m.removeprefix("Compiling jit(").split(")", 1) for m in messages if "Compiling" in m
        ]
        return Counter((name, shapes) for name, shapes in parts if name in RUN)

    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        yield read


def by_name(found: Counter[tuple[str, str]]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for (name, _), count in found.items():
        counts[name] += count
    return dict(counts)


def vectors(folder: Path) -> ConfigDict:
    # Stretches end after 1, 3, 7, 10, 17, ... steps, and the last test batch is not full.
    return runs.config(folder, steps=27, eval_every=10, checkpoint_every=17)


def streamed(folder: Path) -> ConfigDict:
    made = runs.picture_config(folder, steps=5, eval_every=2, checkpoint_every=3)
    made.data.source = made.data.source.replace("folder:", "stream:")
    return made


# Test and training examples come in batches of their own sizes, of the target too.
WAYS = {"loop": (vectors, 2), "step": (streamed, 1)}


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("way", list(WAYS))
def test_a_run_compiles_each_of_its_programs_once_before_and_after_a_stop(
    way, tmp_path, monkeypatch, compiled
) -> None:
    make, sizes = WAYS[way]
    made, folder = make(tmp_path), tmp_path / "run"
    for code in (128 + 15, 0):
        jax.clear_caches()
        compiled()
        with monkeypatch.context() as once:
            if code:
                once.setattr(runtime, "largest", lambda signal, seconds: (15, seconds))
            assert train.run(made, folder) == code
        found = compiled()
        assert max(found.values()) == 1, found
        assert by_name(found) == {way: 1, "init": 1, "run": sizes, "all_finite": 1}


def test_a_step_on_other_shapes_is_an_error_and_no_other_program(monkeypatch) -> None:
    advance, state = steps.started("loop", monkeypatch)
    state, _ = advance(state, 0, 2)
    with pytest.raises(TypeError, match="compiled"):
        advance(state._replace(seed=jnp.zeros(3, jnp.int32)), 2, 2)
