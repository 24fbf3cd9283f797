from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jtl import partition
from jtl.errors import UserError
from jtl.training import optimizers
from jtl.types import Array, Params, Phase

HYPER = {"learning_rate": jnp.float32(0.5), "weight_decay": jnp.float32(0.0)}
PARAMS = {
    "backbone": {"stem": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}},
    "head": {"kernel": jnp.full((3, 2), 2.0)},
}
GRADIENTS = jax.tree.map(lambda leaf: jnp.arange(1.0, leaf.size + 1).reshape(leaf.shape), PARAMS)
CONSTANT = optimizers.schedule("constant")
SGD = optimizers.sgd(CONSTANT)
EVERYTHING = (Phase(lambda source, target, scope: (jnp.zeros(()), {})),)


def grouping(
    rules: partition.Rules = ((".*", "train"),),
    phases: tuple[Phase, ...] = EVERYTHING,
    factors: dict[str, float] | None = None,
    block_factors: dict[str, float] | None = None,
) -> tuple[Params, dict[str, float]]:
    labels = partition.label(PARAMS, rules)
    return optimizers.groups(labels, phases, factors or {}, block_factors or {})


def update(
    optimizer: optimizers.Optimizer = SGD,
    hyper: dict[str, Array] | None = None,
    steps: int = 1,
    clip: float = 0.0,
    **settings: Any,
) -> Params:
    """The change of the last of some steps along one gradient, over all groups."""
    labels, factors = grouping(**settings)
    made = optimizers.grouped(
        optimizer, HYPER | (hyper or {}), jnp.zeros(()), labels, factors, clip=clip
    )
    params, _ = partition.split(PARAMS, partition.map_paths(lambda *_: True, labels))
    gradients, state, changes = GRADIENTS, made.init(params), params
    for _ in range(steps):
        changes, state = made.update(gradients, state, params)
    return changes


def assert_close(found: Params, expected: Params, rtol: float = 1e-6) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol), found, expected)


@pytest.mark.parametrize("factor", [0.125, 0.1])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_groups_update_is_its_factor_times_the_others(factor: float, steps: int) -> None:
    rules = (("backbone/.*", "slow"), (".*", "train"))
    whole = update(steps=steps)
    slow = update(steps=steps, rules=rules, factors={"slow": factor})
    assert_close(slow["head"], whole["head"], rtol=0)
    exact = 0 if factor == 0.125 else 1e-6  # a power of two rounds nothing
    scaled = jax.tree.map(lambda leaf: leaf * factor, whole["backbone"])
    assert_close(slow["backbone"], scaled, rtol=exact)


def test_layers_decay_through_the_factors_of_their_blocks() -> None:
    decayed = update(block_factors={"head": 1.0, "backbone/stem": 0.25})
    whole = update()
    assert_close(decayed["head"], whole["head"], rtol=0)
    assert_close(decayed["backbone"], jax.tree.map(lambda leaf: leaf / 4, whole["backbone"]))


def test_the_factors_of_group_and_block_multiply() -> None:
    _, factors = grouping(
        rules=(("backbone/.*", "slow"), (".*", "train")),
        factors={"slow": 0.5},
        block_factors={"backbone/stem": 0.25},
    )
    assert sorted(factors.values()) == [0.125, 1.0]


def test_a_block_is_not_another_whose_name_it_begins() -> None:
    _, factors = grouping(block_factors={"backbone/st": 0.25, "he": 0.5})
    assert set(factors.values()) == {1.0}


def test_a_group_without_a_factor_is_named() -> None:
    rules = (("backbone/.*", "slwo"), (".*", "train"))
    with pytest.raises(UserError, match=r"label 'slwo' of backbone/stem/kernel .*mean slow"):
        grouping(rules=rules, factors={"slow": 0.1})


def test_a_phase_with_nothing_to_train_is_named() -> None:
    def fit(*_: Any) -> Any: ...

    phases = (*EVERYTHING, Phase(fit, trains=("backbone/.*",)))
    with pytest.raises(UserError, match=r"nothing to train in the phase 'fit'.*backbone/\.\*"):
        grouping(rules=(("backbone/.*", "freeze"), (".*", "train")), phases=phases)
    with pytest.raises(UserError, match="nothing to train"):
        grouping(rules=((".*", "freeze"),))


def test_a_group_is_moved_by_the_phases_that_match_it() -> None:
    function = EVERYTHING[0].objective
    phases = (
        Phase(function),
        Phase(function, trains=("head/.*",)),
        *(Phase(function) for _ in range(10)),
    )
    labels, _ = grouping(phases=phases)
    head, stem = labels["head"]["kernel"], labels["backbone"]["stem"]["bias"]
    assert optimizers.moves(head, 0) and optimizers.moves(head, 1) and optimizers.moves(head, 11)
    assert optimizers.moves(stem, 0) and not optimizers.moves(stem, 1)
    assert optimizers.moves(stem, 11), "the 1 of 11 is not phase 1"


@pytest.mark.parametrize("make", [optimizers.sgd, optimizers.adamw])
def test_held_groups_neither_move_nor_change_their_state(make: Any) -> None:
    labels, factors = grouping(
        rules=(("backbone/.*", "slow"), (".*", "train")), factors={"slow": 1}
    )
    hyper = HYPER | {"weight_decay": jnp.float32(0.1)}

    def made(moving: str) -> optax.GradientTransformation:
        return optimizers.grouped(
            make(CONSTANT),
            hyper,
            jnp.zeros(()),
            labels,
            factors,
            moving=lambda name: name.startswith(moving),
        )

    state = made("").init(PARAMS)
    _, state = made("").update(GRADIENTS, state, PARAMS)
    changes, after = made("train").update(GRADIENTS, state, PARAMS)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(changes["backbone"]))
    assert np.all(np.asarray(changes["head"]["kernel"]) != 0)
    for name, group in state.inner_states.items():
        kept = jax.tree.map(np.array_equal, group, after.inner_states[name])
        assert all(jax.tree.leaves(kept)) == name.startswith("slow"), name


def test_clipping_bounds_the_norm_of_everything_that_moves() -> None:
    plain = optimizers.sgd(CONSTANT, momentum=0.0)
    norm = float(optax.tree.norm(GRADIENTS))
    clipped = update(plain, clip=norm / 4)
    assert_close(clipped, jax.tree.map(lambda leaf: leaf / 4, update(plain)))
    assert_close(update(plain, clip=norm * 2), update(plain), rtol=0)


def test_weight_decay_shrinks_matrices_only() -> None:
    decay = {"weight_decay": jnp.float32(0.1)}
    for make in (optimizers.sgd, optimizers.adamw):
        plain, decayed = update(make(CONSTANT)), update(make(CONSTANT), decay)
        stem, plain_stem = decayed["backbone"]["stem"], plain["backbone"]["stem"]
        assert np.array_equal(stem["bias"], plain_stem["bias"])
        assert np.all(np.asarray(stem["kernel"]) < np.asarray(plain_stem["kernel"]))


def test_sgd_is_nesterovs() -> None:
    momentum, rate = 0.9, 0.5
    first, second = update(), update(steps=2)
    assert_close(first, jax.tree.map(lambda g: -rate * (1 + momentum) * g, GRADIENTS))
    ahead = 1 + momentum * (1 + momentum)
    assert_close(second, jax.tree.map(lambda g: -rate * ahead * g, GRADIENTS))


def test_adamw_is_optaxs_and_its_decay_is_decoupled() -> None:
    decay = {"weight_decay": jnp.float32(0.1)}
    reference = optax.adamw(
        0.5, weight_decay=0.1, mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    )
    changes, _ = reference.update(GRADIENTS, reference.init(PARAMS), PARAMS)
    assert_close(update(optimizers.adamw(CONSTANT), decay), changes)


@pytest.mark.parametrize("make", [optimizers.sgd, optimizers.adamw])
def test_the_schedule_scales_the_learning_rate(make: Any) -> None:
    labels, factors = grouping()
    rates = []
    for progress in (0.0, 0.5):
        made = optimizers.grouped(
            make(optimizers.schedule("cosine")), HYPER, jnp.float32(progress), labels, factors
        )
        changes, _ = made.update(GRADIENTS, made.init(PARAMS), PARAMS)
        rates.append(float(changes["head"]["kernel"][0, 0]))
    assert rates[1] == pytest.approx(rates[0] / 2)


def test_warm_up_multiplies_the_decay() -> None:
    warm = optimizers.schedule("cosine", warmup=0.5)
    plain = optimizers.schedule("cosine")
    assert float(warm(jnp.float32(0.0))) == 0.0
    assert float(warm(jnp.float32(0.25))) == pytest.approx(float(plain(jnp.float32(0.25))) / 2)
    assert float(warm(jnp.float32(0.75))) == pytest.approx(float(plain(jnp.float32(0.75))))


def states(make: Any, rules: partition.Rules, factors: dict[str, float], steps: int) -> Any:
    """A fresh optimizer's state under rules, and the same after some steps."""
    labels, group_factors = grouping(rules=rules, factors=factors)
    made = optimizers.grouped(make(CONSTANT), HYPER, jnp.zeros(()), labels, group_factors, clip=1.0)
    params, _ = partition.split(PARAMS, partition.keep(partition.label(PARAMS, rules), _trains))
    gradients, _ = partition.split(
        GRADIENTS, partition.keep(partition.label(PARAMS, rules), _trains)
    )
    state = made.init(params)
    for _ in range(steps):
        _, state = made.update(gradients, state, params)
    return state


def _trains(label: str) -> bool:
    return label != partition.FREEZE


def group(state: Any, name: str) -> Any:
    return optax.tree.get(state, "inner_states")[name]


def leaves(tree: Any) -> dict[str, Array]:
    return {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def equal(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


HEAD_ONLY = (("backbone/.*", "freeze"), (".*", "train"))
THAWED = (("backbone/.*", "thawed"), (".*", "train"))


@pytest.mark.parametrize("make", [optimizers.sgd, optimizers.adamw])
def test_a_group_that_trained_before_keeps_its_state_beside_a_newcomer(make: Any) -> None:
    old = states(make, HEAD_ONLY, {}, 2)
    fresh = states(make, THAWED, {"thawed": 1.0}, 0)
    carried = optimizers.carried(fresh, old)
    assert jax.tree.structure(carried) == jax.tree.structure(fresh)
    assert equal(group(carried, "train||0"), group(old, "train||0"))
    assert equal(group(carried, "thawed||0"), group(fresh, "thawed||0"))
    assert not equal(group(carried, "train||0"), group(fresh, "train||0"))


@pytest.mark.parametrize("make", [optimizers.sgd, optimizers.adamw])
def test_a_group_joined_by_a_newcomer_starts_afresh(make: Any) -> None:
    old, fresh = states(make, HEAD_ONLY, {}, 2), states(make, ((".*", "train"),), {}, 0)
    assert_close(optimizers.carried(fresh, old), fresh, rtol=0)


@pytest.mark.parametrize("make", [optimizers.sgd, optimizers.adamw])
def test_a_group_keeps_its_state_when_others_leave_it(make: Any) -> None:
    old, fresh = states(make, ((".*", "train"),), {}, 2), states(make, HEAD_ONLY, {}, 0)
    carried = optimizers.carried(fresh, old)
    assert jax.tree.structure(carried) == jax.tree.structure(fresh)
    # Clipping saw other gradients, so the head's state is looked up rather than computed again.
    before = {p: leaf for p, leaf in leaves(group(old, "train||0")).items() if "stem" not in p}
    assert before.keys() == leaves(group(carried, "train||0")).keys()
    assert equal(before, leaves(group(carried, "train||0")))
    assert any(np.any(leaf) for leaf in before.values())
