"""Which parameters train: what stays, what it costs, and rules that change during a run."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from jtl.errors import UserError
from jtl.models.chain import chain, classifier
from jtl.training import optimizers
from jtl.training.step import make_training, repartition
from jtl.types import Batch, Labelled, Params, TrainState, Unlabelled

WIDE = 64
HEAD = (("head/.*", "train"), (".*", "freeze"))

run = functools.partial(toys.run, plain=True)


# --- partition ------------------------------------------------------------------------------------


@functools.cache
def frozen_run() -> tuple[TrainState, TrainState]:
    adam = optimizers.adamw(optimizers.schedule("constant"))
    frozen = run(rules=toys.FROZEN_BACKBONE, clip=0.5, optimizer=adam)
    start = state = frozen.start()
    decaying = frozen.hyper | {"weight_decay": jnp.float32(0.1)}
    for index in range(3):
        state, _ = frozen.step(state, toys.batch(index), decaying)
    return start, state


def test_frozen_parameters_stay_bit_identical_under_weight_decay_and_clipping() -> None:
    start, end = frozen_run()
    assert set(start.frozen) == {"backbone"} and "backbone" not in start.params
    assert toys.same(start.frozen, end.frozen)
    assert all(
        np.any(a != b)
        for a, b in zip(*map(jax.tree.leaves, (start.params, end.params)), strict=True)
    )


def test_frozen_parameters_have_no_optimizer_state() -> None:
    start, _ = frozen_run()
    paths = [
        jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(start.optimizer)
    ]
    assert any("bottleneck" in path for path in paths)
    assert not any("backbone" in path for path in paths)
    moments = sum(leaf.size for leaf in jax.tree.leaves(start.optimizer) if leaf.ndim)
    assert moments == 2 * sum(leaf.size for leaf in jax.tree.leaves(start.params))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rules": (("backbone/.*", "freeze"),)}, "no rule matches the parameter bottleneck"),
        ({"rules": (("backbon/.*", "freeze"), (".*", "train"))}, "decides no parameter"),
        ({"rules": (("head/.*", "fast"), (".*", "train"))}, "label 'fast' of head/kernel"),
        ({"rules": ((".*", "freeze"),)}, "nothing to train in the phase 'task'"),
        ({"batch_norm": "seperate"}, "there is no 'seperate'; did you mean separate?"),
    ],
)
def test_a_recipe_that_cannot_be_followed_says_why(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        make_training(toys.recipe(toys.supervised(), plain=True, **settings))


def test_pretrained_values_take_the_place_of_random_ones_and_of_no_others() -> None:
    supervised = run()
    random = supervised.start()
    kernel = np.ones((toys.INPUTS, toys.WIDTH), np.float32)
    given = {"backbone": {"stem": {"kernel": kernel}}}
    start = supervised.training.init(0, supervised.hyper, (given, {}))
    np.testing.assert_array_equal(start.params["backbone"]["stem"]["kernel"], kernel)
    assert toys.difference(start.params["head"], random.params["head"]) < 1e-6


def test_what_a_method_remembers_are_the_pretrained_values() -> None:
    method = toys.l2_start()
    training = make_training(toys.recipe(method, plain=True))
    given = {"head": {"kernel": np.ones((toys.WIDTH, toys.CLASSES), np.float32)}}
    start = training.init(0, toys.hyper(method), (given, {}))
    assert toys.same(start.memory["start"], start.params)
    assert toys.same(start.memory["start"]["head"], given["head"])


# --- no backward pass for what is frozen ----------------------------------------------------------

BATCH = Batch(
    Labelled(np.zeros((64, toys.INPUTS), np.float32), np.zeros(64, np.int32)),
    Unlabelled(np.zeros((64, toys.INPUTS), np.float32)),
)


def flops(function: Any, *args: Any) -> float:
    return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


@functools.cache
def step_flops(rules: Any, clip: float = 0.0, cut: int = 0) -> float:
    blocks = toys.dense_blocks(WIDE)
    made = toys.small_mmd()
    recipe = toys.recipe(made, model=classifier(blocks[cut:]), rules=rules, clip=clip)
    training, hyper = make_training(recipe), toys.hyper(made)
    batch = BATCH
    if cut:
        below = np.zeros((64, WIDE), np.float32)
        batch = Batch(BATCH.source._replace(inputs=below), Unlabelled(below))
    return flops(training.step, jax.eval_shape(training.init, 0, hyper), batch, hyper)


@functools.cache
def forward_flops(cut: int) -> float:
    model = chain(toys.dense_blocks(WIDE)[:cut])
    params, _ = jax.eval_shape(model.init, jax.random.key(0))

    def both(params: Params, source: Any, target: Any) -> Any:
        outputs = (model.apply(params, {}, x, train=False, rng=None)[0] for x in (source, target))
        return tuple(outputs)

    return flops(both, params, BATCH.source.inputs, BATCH.source.inputs)


def test_a_frozen_backbone_costs_its_forward_pass_and_nothing_more() -> None:
    frozen, whole = step_flops(toys.FROZEN_BACKBONE), step_flops(toys.ALL)
    ideal = step_flops(toys.ALL, cut=2) + forward_flops(2)
    assert frozen < 0.8 * whole
    assert frozen == pytest.approx(ideal, rel=0.01)


def test_clipping_and_the_gradient_norm_do_not_bring_the_frozen_backward_pass_back() -> None:
    clipped = step_flops(toys.FROZEN_BACKBONE, clip=1.0)
    ideal = step_flops(toys.ALL, clip=1.0, cut=2) + forward_flops(2)
    assert clipped == pytest.approx(ideal, rel=0.01)
    assert clipped < 0.8 * step_flops(toys.ALL)


# --- a schedule of rules --------------------------------------------------------------------------

THAWED = (("head/.*", "train"), ("bottleneck/.*", "thawed"), (".*", "freeze"))
ADAM = optimizers.adamw(optimizers.schedule("constant"))


@functools.cache
def probe_then_thaw() -> tuple[TrainState, TrainState, TrainState]:
    """A probe's end, the same repartitioned, and the end of what follows."""
    probe = run("mean_teacher", rules=HEAD, optimizer=ADAM)
    thawed = run("mean_teacher", rules=THAWED, optimizer=ADAM, factors=_factors())
    end, _ = probe.train(2)
    switched = jax.jit(lambda s: repartition(s, thawed.training, thawed.hyper))(end)
    return end, switched, thawed.train(2, switched)[0]


@functools.cache
def _factors() -> Any:
    """Hashable, to be an argument of a cached function."""
    return _Factors(thawed=1.0)


class _Factors(dict[str, float]):
    __hash__ = object.__hash__


def all_params(state: TrainState) -> dict[str, Any]:
    return state.params | {
        key: value | state.params.get(key, {}) for key, value in state.frozen.items()
    }


def test_a_change_of_rules_changes_no_value() -> None:
    before, after, _ = probe_then_thaw()
    assert set(before.params) == {"head"} and set(after.params) == {"head", "bottleneck"}
    assert toys.same(all_params(before), all_params(after))
    assert (int(after.step), int(after.seed)) == (2, int(before.seed))
    assert toys.same(before.stats, after.stats)


def test_leaves_that_a_new_rule_unfreezes_then_move_and_the_others_do_not() -> None:
    _, after, end = probe_then_thaw()
    assert not toys.same(after.params["bottleneck"], end.params["bottleneck"])
    assert not toys.same(after.params["head"], end.params["head"])
    assert toys.same(after.frozen, end.frozen)
    assert int(end.step) == 4


def test_a_group_that_trained_keeps_its_moments_and_newcomers_start_afresh() -> None:
    before, after, _ = probe_then_thaw()
    head = optax.tree.get(before.optimizer, "inner_states")["train||0"]
    groups = optax.tree.get(after.optimizer, "inner_states")
    assert all(
        np.array_equal(*pair)
        for pair in zip(*map(jax.tree.leaves, (head, groups["train||0"])), strict=True)
    )
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(groups["thawed||0"]))


def test_a_teacher_keeps_what_it_learnt_and_knows_newcomers_as_they_are() -> None:
    before, after, _ = probe_then_thaw()
    assert toys.same(before.memory["teacher"]["head"], after.memory["teacher"]["head"])
    assert not toys.same(after.memory["teacher"]["head"], after.params["head"])
    assert toys.same(after.memory["teacher"]["bottleneck"], after.params["bottleneck"])


def test_the_same_rules_again_change_nothing() -> None:
    _, _, end = probe_then_thaw()
    thawed = run("mean_teacher", rules=THAWED, optimizer=ADAM, factors=_factors())
    assert toys.same(end, jax.jit(lambda s: repartition(s, thawed.training, thawed.hyper))(end))


def test_leaves_can_be_frozen_again() -> None:
    before, _, end = probe_then_thaw()
    probe = run("mean_teacher", rules=HEAD, optimizer=ADAM)
    back = repartition(end, probe.training, probe.hyper)
    assert jax.tree.structure(back) == jax.tree.structure(before)
    assert toys.same(all_params(back), all_params(end))
