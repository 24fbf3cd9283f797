"""Low-rank adaptation of any model, through its parameters alone."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs
import toys
from flax import nnx

from jtl import configuration
from jtl.errors import UserError
from jtl.methods.supervised import supervised
from jtl.models import lora, saved
from jtl.models.adapter import from_nnx
from jtl.models.chain import Blocks, chain, classifier
from jtl.models.layers import Conv
from jtl.models.zoo import vectors
from jtl.partition import merge, split, walk
from jtl.runs import conclude
from jtl.runs.prepare import prepare
from jtl.training.network import Start
from jtl.types import Params

RULES = ((".*_lora_[ab]", "train"), ("head/.*", "train"), (".*", "freeze"))
ALPHA = 6.0
X = np.random.default_rng(0).normal(size=(16, toys.INPUTS)).astype(np.float32)


def adapted(blocks: Blocks, on: str = "backbone/.*", rank: int = 2) -> Blocks:
    return lora.adapted(blocks, rank=rank, alpha=ALPHA, on=on)


def run(blocks: Blocks) -> toys.Run:
    recipe = toys.recipe(supervised(), model=classifier(blocks), rules=RULES)
    return toys.Run(recipe, weight_decay=0.0)


def parameters(blocks: Blocks) -> Params:
    return chain(blocks).init(jax.random.key(0))[0]


@pytest.mark.parametrize("blocks", [toys.dense_blocks(), toys.blocks()], ids=["jax", "flax"])
def test_nothing_changes_at_the_start(blocks: Blocks) -> None:
    plain, low_rank = classifier(blocks), classifier(adapted(blocks))
    before, stats = plain.init(jax.random.key(0))
    after, _ = low_rank.init(jax.random.key(0))
    assert toys.same(before, lora.without(after)) and not toys.same(before, after)
    wanted, _ = plain.apply(before, stats, X, train=False, rng=None)
    found, _ = low_rank.apply(after, stats, X, train=False, rng=None)
    assert toys.same(wanted, found)
    assert toys.same(lora.merged(after, alpha=ALPHA), before)


def test_only_the_low_rank_leaves_and_the_head_train() -> None:
    made = run(adapted(toys.dense_blocks()))
    start = made.start()
    end, _ = made.train(3, start)
    beside = ("backbone/stem/kernel", "backbone/stage1/kernel")
    leaves = {path + end for path in beside for end in (lora.A, lora.B)} | {"head/kernel"}
    assert {path for path, _ in walk(end.params)} == leaves
    before = dict(walk(start.params))
    assert all(bool(jnp.any(leaf != before[path])) for path, leaf in walk(end.params))
    assert toys.same(start.frozen, end.frozen)


@pytest.mark.parametrize("blocks", [toys.dense_blocks(), toys.blocks()], ids=["jax", "flax"])
def test_the_merged_model_gives_what_the_trained_one_gives(blocks: Blocks) -> None:
    made = run(adapted(blocks))
    state, _ = made.train(3)
    params = merge(state.params, state.frozen)
    merged = lora.merged(params, alpha=ALPHA)
    assert {path for path, _ in walk(merged)} == {path for path, _ in walk(parameters(blocks))}
    trained, _ = made.recipe.model.apply(params, state.stats, X, train=False, rng=None)
    plain, _ = classifier(blocks).apply(merged, state.stats, X, train=False, rng=None)
    np.testing.assert_allclose(plain.logits, trained.logits, rtol=1e-5, atol=1e-6)
    start, _ = classifier(blocks).apply(lora.without(params), state.stats, X, train=False, rng=None)
    assert np.abs(start.logits - trained.logits).max() > 1e-2


def test_a_kernel_is_changed_by_alpha_over_rank_times_the_product() -> None:
    draw = np.random.default_rng(0)
    w, a, b = (draw.normal(size=s).astype(np.float32) for s in ((3, 2, 4, 5), (24, 3), (3, 5)))
    params = {"conv": {"kernel": w, "kernel" + lora.A: a, "kernel" + lora.B: b, "bias": b[0]}}
    found = lora.merged(params, alpha=2.0)["conv"]
    change = 2.0 / 3 * np.einsum("ir,ro->io", a.astype(np.float64), b).reshape(w.shape)
    np.testing.assert_allclose(found["kernel"], w + change, rtol=1e-5, atol=1e-6)
    assert set(found) == {"kernel", "bias"} and found["bias"] is params["conv"]["bias"]


class Filter(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = Conv(2, 2, 3, rngs=rngs)
        self.second = Conv(2, 4, 3, rngs=rngs)
        self.norm = nnx.GroupNorm(4, num_groups=2, rngs=rngs)

    def __call__(self, x: jax.Array, *, rng: jax.Array | None = None) -> jax.Array:
        return self.norm(self.second(self.first(x)))


def test_convolutions_are_adapted_as_matrices_and_vectors_are_not() -> None:
    blocks = (("backbone/filter", from_nnx(Filter)), ("head", toys.dense(4, 3)))
    params = parameters(adapted(blocks, on=".*"))
    shapes = {path: leaf.shape for path, leaf in walk(params) if re.search("_lora_", path)}
    assert shapes == {
        "backbone/filter/first/kernel_lora_a": (18, 2),
        "backbone/filter/first/kernel_lora_b": (2, 2),
        "backbone/filter/second/kernel_lora_a": (18, 2),
        "backbone/filter/second/kernel_lora_b": (2, 4),
        "head/kernel_lora_a": (4, 2),
        "head/kernel_lora_b": (2, 3),
    }
    a = np.concatenate([leaf.ravel() for path, leaf in walk(params) if path.endswith("_a")])
    assert 0.1 < np.abs(a).mean() < 1.0 and len(np.unique(a)) == len(a)


def test_a_pattern_that_matches_no_kernel_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.lora\.on: 'bakbone.*' matches no kernel; the bl"):
        adapted(toys.dense_blocks(), on="bakbone/.*")


def config(folder: Path, **changes: Any) -> Any:
    """Low-rank adaptation of the bottleneck."""
    made = small_runs.config(folder, **changes)
    made.method = {"name": "supervised"}
    made.partition = RULES
    made.model.lora = {"rank": 2, "alpha": ALPHA, "on": "bottleneck/.*"}
    return configuration.complete(made, "test")


def test_a_run_leaves_the_model_of_the_plain_architecture(tmp_path: Path) -> None:
    made = prepare(config(tmp_path), tmp_path)
    training = made.stages[0].training
    state = training.init(0, made.hyper, made.net.start())
    params, frozen = split(state.params, jax.tree.map(lambda _: True, state.params))
    moved = jax.tree.map(lambda leaf: leaf + 0.1, params)
    conclude.write_model(made, state._replace(params=moved, frozen=merge(frozen, state.frozen)))
    left = saved.read(tmp_path).params
    assert {path for path, _ in walk(left)} == {
        "bottleneck/dense/kernel",
        "bottleneck/norm/scale",
        "bottleneck/norm/bias",
        "head/dense/kernel",
        "head/dense/bias",
    }
    whole = merge(moved, state.frozen)
    np.testing.assert_array_equal(
        left["bottleneck"]["dense"]["kernel"],
        lora.merged(whole, alpha=ALPHA)["bottleneck"]["dense"]["kernel"],
    )


def test_a_run_starts_low_rank_leaves_beside_another_runs_model(tmp_path: Path) -> None:
    blocks = (("bottleneck", toys.dense(6, 8)), ("head", toys.dense(8, 3)))
    given = parameters(blocks)
    saved.write(tmp_path, given, {}, vectors("6"), ["a", "b"])
    wrapped = adapted(blocks, on=".*")
    starts = [Start(vectors("6"), wrapped, initial=str(tmp_path), low_rank=True)(s) for s in (0, 1)]
    (first, _), (second, _) = starts
    assert toys.same(lora.without(first), jax.device_get(given))
    assert toys.same(lora.without(second), lora.without(first))
    assert not toys.same(first, second), "the leaves beside them are drawn by the seed"
    assert {path for path, _ in walk(first)} == {path for path, _ in walk(parameters(wrapped))}
