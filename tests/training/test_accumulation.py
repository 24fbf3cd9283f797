"""Batches in parts: less memory, and the numbers of whole ones."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs as runs
import toys
from jax.sharding import NamedSharding, PartitionSpec

from jtl import losses
from jtl.devices import sharding
from jtl.errors import UserError
from jtl.models import digits_convnet, heads
from jtl.models.chain import classifier
from jtl.runs import prepare
from jtl.training import accumulation
from jtl.training.step import Training, make_training
from jtl.types import Model, Params, TrainState

pytestmark = pytest.mark.usefixtures("small_programs")

STEPS, PARTS = 3, 2
# A mean over examples, a loss of whole batches, a teacher.
METHODS = ("supervised", "mmd", "mean_teacher")


def whole(method: str) -> TrainState:
    return toys.run(method, plain=True).train(STEPS)[0]


def parts_of(method: str, parts: int = PARTS, axis_name: str | None = None) -> Training:
    recipe = toys.recipe(toys.METHODS[method](), plain=True, axis_name=axis_name)
    return make_training(replace(recipe, model=accumulation.in_parts(recipe.model, parts)))


def trained(step: Any, state: TrainState, method: str, cut: Any = lambda batch: batch) -> Any:
    hyper = toys.hyper(toys.METHODS[method]())
    for index in range(STEPS):
        state, _ = step(state, cut(toys.batch(index)), hyper)
    return state


def start(method: str) -> TrainState:
    return toys.run(method, plain=True).start()


@pytest.mark.parametrize("method", METHODS)
def test_parts_train_the_parameters_of_the_whole(method: str) -> None:
    end = trained(jax.jit(parts_of(method, 4).step), start(method), method)
    for field in ("params", "memory"):
        assert toys.difference(getattr(whole(method), field), getattr(end, field)) < 1e-6
    assert toys.difference(whole(method).params, start(method).params) > 1e-2


def test_parts_of_batches_shared_by_devices_are_those_of_one() -> None:
    devices = sharding.mesh()
    there = NamedSharding(devices, PartitionSpec())
    step = jax.jit(
        parts_of("mmd").step,
        in_shardings=(there, sharding.split(devices), there),
        out_shardings=there,
    )
    assert toys.difference(whole("mmd").params, trained(step, start("mmd"), "mmd").params) < 1e-6


def test_parts_under_pmap_are_those_of_one_device() -> None:
    step = jax.pmap(
        parts_of("mmd", axis_name=sharding.AXIS).step,
        axis_name=sharding.AXIS,
        in_axes=(0, 0, None),
    )
    count = jax.device_count()
    state = jax.tree.map(lambda leaf: np.stack([leaf] * count), start("mmd"))

    def cut(batch: Any) -> Any:
        return jax.tree.map(lambda rows: rows.reshape(count, -1, *rows.shape[1:]), batch)

    end = jax.tree.map(lambda leaf: leaf[0], trained(step, state, "mmd", cut))
    assert toys.difference(whole("mmd").params, end.params) < 1e-6


def test_lanes_in_parts_are_the_runs_that_they_stand_for() -> None:
    both = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), start("mmd"))
    step = jax.jit(jax.vmap(parts_of("mmd").step, in_axes=(0, None, None)))
    end = trained(step, both, "mmd")
    for lane in range(2):
        params = jax.tree.map(lambda leaf, lane=lane: leaf[lane], end.params)
        assert toys.difference(whole("mmd").params, params) < 1e-6


def gradient(model: Model, params: Params, images: Any) -> Params:
    labels = np.arange(len(images)) % toys.CLASSES

    def loss(params: Params) -> jax.Array:
        outputs, _ = model.apply(params, {}, images, train=True, rng=jax.random.key(0))
        return losses.cross_entropy(outputs.logits, labels).mean()

    return jax.jit(jax.grad(loss))(params)


def test_convolutions_in_parts_have_the_gradient_of_the_whole() -> None:
    """On a CPU the parts stand one after another, and in no loop."""
    blocks = digits_convnet.backbone(image_size=8, width=4).blocks()
    model = classifier((*blocks, ("head", heads.head(16, toys.CLASSES))))
    params, _ = model.init(jax.random.key(0))
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), np.uint8)
    expected = gradient(model, params, images)
    found = gradient(accumulation.in_parts(model, 3), params, images)
    assert toys.difference(expected, found) < 1e-6


def test_parts_take_less_memory() -> None:
    model = classifier(toys.dense_blocks(256))
    params = jax.eval_shape(model.init, jax.random.key(0))[0]
    inputs = jax.ShapeDtypeStruct((4096, toys.INPUTS), jnp.float32)

    def scratch(parts: int) -> int:
        def loss(params: Params, inputs: jax.Array) -> jax.Array:
            cut = accumulation.in_parts(model, parts)
            outputs, _ = cut.apply(params, {}, inputs, train=True, rng=jax.random.key(0))
            return losses.cross_entropy(outputs.logits, jnp.zeros(4096, int)).mean()

        compiled = jax.jit(jax.grad(loss)).lower(params, inputs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert scratch(8) < 0.4 * scratch(1)


@pytest.mark.usefixtures("registered")
def test_batch_norms_that_move_are_refused(tmp_path) -> None:
    made = runs.config(tmp_path, accumulate=2)
    made.model.backbone = "random:batch-norm"
    with pytest.raises(
        UserError, match=r"batch norm backbone/stem/norm trains.* batch_norm=frozen"
    ):
        prepare.prepare(made, tmp_path)
    made.batch_norm = "frozen"
    prepare.prepare(made, tmp_path)
    made.batch_norm, made.partition = "separate", (("backbone/.*", "freeze"), (".*", "train"))
    prepare.prepare(made, tmp_path)


def test_the_deviations_of_columns_are_no_batch_norm(tmp_path) -> None:
    made = runs.config(tmp_path, accumulate=2)
    made.model.standardize = True
    prepare.prepare(made, tmp_path)
    made.method = {"name": "adabn"}
    with pytest.raises(UserError, match="adabn moves the statistics of batch norms, and none"):
        prepare.prepare(made, tmp_path)


def test_parts_that_devices_cannot_share_are_refused() -> None:
    with pytest.raises(
        UserError, match="24 cannot be shared by 8 devices in 2 parts; use 32 or 16"
    ):
        sharding.check_batch_size(24, 8, parts=2)
    sharding.check_batch_size(24, 8)
