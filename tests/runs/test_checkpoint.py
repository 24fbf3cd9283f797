import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from jtl.checkpoint import Checkpoints
from jtl.errors import UserError
from jtl.types import TrainState

Notes = list[str]


def make_state(step: int = 0, width: int = 4) -> TrainState:
    """A state with every kind of leaf and of emptiness that a run has."""
    params = {
        "backbone": {"conv": {"w": jnp.full((width, 3), 0.1 + step)}},
        "head": {"b": -jnp.zeros(3)},
    }
    labels = {"backbone": "slow", "head": "none"}
    transforms = {"slow": optax.adamw(1e-3), "none": optax.set_to_zero()}
    return TrainState(
        step=jnp.int32(step),
        seed=jnp.uint32(2**32 - 1),
        params=params,
        frozen={"backbone": {"stem": {"w": jnp.arange(5, dtype=jnp.bfloat16) / 3}}},
        stats={"backbone": {"norm": {"mean": jnp.array([jnp.nan, -0.0, jnp.inf])}}, "head": {}},
        optimizer=optax.partition(transforms, labels).init(params),
        memory={},
    )


def bits(tree: Any) -> list[tuple[str, bytes]]:
    return [(str(leaf.dtype), np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def assert_same(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    assert bits(actual) == bits(expected)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(actual))


def written(folder: Path, steps: int = 2) -> Path:
    with Checkpoints(folder, keep_latest=steps) as checkpoints:
        for step in range(1, steps + 1):
            checkpoints.save(step, make_state(step))
    return folder


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("two"))


def test_restored_state_is_bitwise_what_was_saved(tmp_path: Path) -> None:
    state = make_state(7)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(state) is None
        checkpoints.save(7, state, wait=True)
        restored = checkpoints.restore_latest(jax.eval_shape(lambda: state))
        assert restored is not None
        assert restored[0] == 7
        assert_same(restored[1], state)
        assert_same(checkpoints.restore(7, state), state)


def test_donating_the_state_after_a_save_does_not_change_what_is_saved(tmp_path: Path) -> None:
    state = {f"layer{i}": jnp.arange(2_000_000.0) for i in range(3)}
    advance = jax.jit(lambda s: jax.tree.map(lambda x: x * 1.5 + 1, s), donate_argnums=0)
    saved = {}
    with Checkpoints(tmp_path, keep_latest=9) as checkpoints:
        for step in range(6):
            if step % 3 == 0:
                saved[step] = jax.tree.map(lambda x: np.array(x, copy=True), state)
                checkpoints.save(step, state)
            state = advance(state)
        jax.block_until_ready(state)
        for step, expected in saved.items():
            assert bits(checkpoints.restore(step, state)) == bits(expected)


def garbage(path: Path) -> None:
    middle = path.stat().st_size // 2
    with path.open("r+b") as file:
        file.seek(middle)
        file.write(b"\x5a\xa5garbage"[: max(1, path.stat().st_size - middle)])


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [garbage, truncate, Path.unlink])
def test_damage_to_any_file_of_the_newest_is_harmless_or_falls_back(
    damage: Callable[[Path], None], two_steps: Path, tmp_path: Path
) -> None:
    names = [p.relative_to(two_steps) for p in sorted((two_steps / "2").rglob("*")) if p.is_file()]
    fell_back = []
    for number, name in enumerate(names):
        folder = shutil.copytree(two_steps, tmp_path / str(number))
        damage(folder / name)
        notes: Notes = []
        with Checkpoints(folder, note=notes.append) as checkpoints:
            restored = checkpoints.restore_latest(make_state())
            assert restored is not None
            step, state = restored
            assert_same(state, make_state(step))
            assert step in (1, 2)
            assert bool(notes) == (step == 1), "falling back is said, and only that"
            fell_back += [name] * (step == 1)
    assert any("ocdbt" in str(name) for name in fell_back)
    assert Path("2/record/metadata") in fell_back


def test_a_flipped_bit_in_a_large_array_is_found(tmp_path: Path) -> None:
    """Orbax's format has checksums of its own records, but none of large arrays' values."""
    values = {"w": jax.random.normal(jax.random.key(0), (200_000,))}
    with Checkpoints(tmp_path, note=lambda line: None) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, values, wait=True)
        files = (path for path in (tmp_path / "2").rglob("*") if path.is_file())
        largest = max(files, key=lambda path: path.stat().st_size)
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
        restored = checkpoints.restore_latest(values)
        assert restored is not None
        assert restored[0] == 1
        assert bits(restored[1]) == bits(values)


def test_after_falling_back_the_step_can_be_saved_again(two_steps: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(two_steps, tmp_path / "run")
    notes: Notes = []
    for _ in range(2):
        shutil.rmtree(folder / "2" / "state")
        with Checkpoints(folder, note=notes.append) as checkpoints:
            restored = checkpoints.restore_latest(make_state())
            assert restored is not None
            assert restored[0] == 1
            assert checkpoints.steps() == [1]
            checkpoints.save(2, make_state(2), wait=True)
            assert_same(checkpoints.restore(2, make_state()), make_state(2))
    assert sorted(p.name for p in (folder / "corrupt").iterdir()) == ["2", "2.2"]
    assert len(notes) == 4
    assert str(folder / "2") in notes[0]


def test_an_empty_folder_of_a_step_is_passed_over(two_steps: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(two_steps, tmp_path / "run")
    (folder / "3").mkdir()
    with Checkpoints(folder, note=lambda line: None) as checkpoints:
        restored = checkpoints.restore_latest(make_state())
        assert restored is not None
        assert restored[0] == 2


def test_a_folder_of_corrupt_checkpoints_only_is_an_error_naming_it(
    two_steps: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(two_steps, tmp_path / "run")
    for step in ("1", "2"):
        shutil.rmtree(folder / step / "state")
    with Checkpoints(folder, note=lambda line: None) as checkpoints:
        with pytest.raises(UserError, match=str(folder)):
            checkpoints.restore_latest(make_state())
        with pytest.raises(UserError, match="2 is corrupt"):
            checkpoints.restore(2, make_state())
        assert checkpoints.steps() == [1, 2], "nothing is moved where nothing can be read"


def test_latest_and_best_are_kept_across_restarts(tmp_path: Path) -> None:
    scores = [0.1, 0.9, 0.3, float("nan"), None, 0.2]
    for step, score in enumerate(scores, start=1):
        with Checkpoints(tmp_path, keep_latest=2, keep_best=1) as checkpoints:
            checkpoints.save(step, {"w": jnp.full(2, step)}, score=score)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2, 5, 6]
        assert [checkpoints.score(step) for step in (2, 5, 6)] == [0.9, None, 0.2]
        best = checkpoints.restore_best({"w": jnp.zeros(2, jnp.int32)})
        assert best is not None
        assert best[0] == 2
        assert best[1]["w"].tolist() == [2, 2]


def test_the_newest_of_equal_scores_is_the_best(tmp_path: Path) -> None:
    like = {"w": jnp.zeros(1)}
    with Checkpoints(tmp_path, keep_latest=1) as checkpoints:
        checkpoints.save(1, like)
        assert checkpoints.restore_best(like) is None
        for step in (2, 3, 4):
            checkpoints.save(step, like, score=0.5 if step < 4 else 0.1)
        assert checkpoints.steps() == [3, 4]
        best = checkpoints.restore_best(like)
        assert best is not None
        assert best[0] == 3


def test_saving_a_step_again_leaves_it_as_it_is(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.zeros(1)})
        checkpoints.save(1, {"w": jnp.ones(1)}, wait=True)
        assert checkpoints.restore(1, {"w": jnp.zeros(1)})["w"].tolist() == [0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s._replace(memory={"teacher": jnp.zeros(2)}), "lacks memory/teacher"),
        (lambda s: s._replace(frozen={}), "has also frozen/backbone/stem/w"),
        (
            lambda s: s._replace(params=make_state(width=8).params),
            r"params/backbone/conv/w is float32\[4, 3\] there and float32\[8, 3\] here",
        ),
        (lambda s: s._replace(seed=jnp.int32(0)), r"seed is uint32\[\] there and int32\[\] here"),
    ],
)
def test_a_state_that_does_not_fit_is_an_error_naming_the_leaf(
    change: Callable[[TrainState], TrainState], words: str, two_steps: Path
) -> None:
    with Checkpoints(two_steps) as checkpoints:
        for restore in (checkpoints.restore_latest, lambda like: checkpoints.restore(2, like)):
            with pytest.raises(UserError, match=words) as raised:
                restore(change(make_state()))
            assert "\n" not in str(raised.value)
        assert checkpoints.steps() == [1, 2]
        with pytest.raises(UserError, match=r"no step 9 .* \[1, 2\]"):
            checkpoints.restore(9, make_state())


@pytest.mark.parametrize("bad", [{"keep_latest": 0}, {"keep_best": -1}])
def test_keeping_nothing_is_an_error(bad: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="keep_latest"):
        Checkpoints(tmp_path, **bad)


def test_arrays_are_restored_onto_the_sharding_of_like(tmp_path: Path) -> None:
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    spread = NamedSharding(mesh, PartitionSpec("batch"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    one = SingleDeviceSharding(jax.devices()[0])
    values = {"a": jnp.arange(16.0), "b": jnp.ones(3)}
    placed = {
        "a": jax.device_put(values["a"], spread),
        "b": jax.device_put(values["b"], everywhere),
    }
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, placed)
        checkpoints.save(2, values)
        for step, like in itertools.product((1, 2), (placed, values)):
            state = checkpoints.restore(step, like)
            assert_same(state, values)
            for leaf, wanted in zip(state.values(), like.values(), strict=True):
                assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)
        without = jax.eval_shape(lambda: values)
        assert all(leaf.sharding == one for leaf in checkpoints.restore(1, without).values())


SAVE_FOREVER = """
import sys
import jax.numpy as jnp
from jtl.checkpoint import Checkpoints
like = {"step": jnp.int32(0), "w": jnp.zeros(300_000)}
with Checkpoints(sys.argv[1]) as checkpoints:
    restored = checkpoints.restore_latest(like)
    step = restored[0] if restored else 0
    print("from", step, flush=True)
    while True:
        step += 1
        checkpoints.wait()
        print("saved", step - 1, flush=True)
        checkpoints.save(step, {"step": jnp.int32(step), "w": jnp.full(300_000, 1.0 * step)})
"""


def test_killed_at_any_moment_the_last_finished_checkpoint_is_there(tmp_path: Path) -> None:
    moments = random.Random(0)
    like = {"step": jnp.int32(0), "w": jnp.zeros(300_000)}
    finished = 0
    run = tmp_path / "run"
    for attempt in range(2):
        command = [sys.executable, "-c", SAVE_FOREVER, str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            begun = int(process.stdout.readline().split()[1])
            assert begun >= finished
            while finished < begun + 3:
                finished = int(process.stdout.readline().split()[1])
            time.sleep(moments.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
            lines = process.stdout.read().split("\n")[:-1]  # the last one may be cut
        finished = max([finished, *(int(line.split()[1]) for line in lines)])
        notes: Notes = []
        copy = shutil.copytree(run, tmp_path / f"after{attempt}")
        with Checkpoints(copy, note=notes.append) as checkpoints:
            restored = checkpoints.restore_latest(like)
        assert restored is not None
        assert notes == []
        step, state = restored
        assert step >= finished
        assert state["step"] == step
        assert (state["w"] == step).all()


def test_importing_the_module_does_not_import_orbax() -> None:
    program = "import sys, jtl.checkpoint; sys.exit('orbax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
