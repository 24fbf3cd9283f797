"""The methods that adapt a trained model: their objectives, and what none of them touches."""

import re
from typing import Any

import fixed
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_registered
import toys
from fixed import CLASSES, FEATURES, SOURCE, TARGET, float64, softmax
from test_registered import build

from jtl import partition
from jtl.methods import shot
from jtl.types import Method, Outputs, Params, TrainState

FIT, ADAPT = range(2)
STEPS = 3
WEIGHTS = np.array([1.0, -2.0, 0.5, 1.5], np.float32)
KEPT = SOURCE.features[:, ::-1].copy()
"""What the source's own encoder makes of the source."""
SOURCE_FREE = ("shot", "tent", "adabn")


def after(name: str, *, steps: int = STEPS, elsewhere: bool = False) -> TrainState:
    """The state after some steps, perhaps with other examples of the source."""
    made, state = test_registered.run(name), test_registered.first_state(name)
    for index in range(steps):
        batch = test_registered.batch(index)
        if elsewhere:
            batch = batch._replace(source=test_registered.batch(index + 10).source)
        state, _ = made.step(state, batch, made.hyper)
    return state


def changed(name: str) -> set[str]:
    """The parameters that a method moves."""
    before = dict(partition.walk(test_registered.first_state(name).params))
    moved = partition.walk(after(name).params)
    return {path for path, leaf in moved if np.any(leaf != before[path])}


# --- ADDA -----------------------------------------------------------------------------------------


def adda_value(phase: int, target: Any = TARGET.features, weights: Any = WEIGHTS) -> Any:
    memory = {"source_model": {"bottleneck": 7.0}}

    def forward(inputs: Any, params: Params) -> Outputs:
        assert inputs is SOURCE.inputs and params == memory["source_model"]
        return Outputs(KEPT, SOURCE.logits)

    networks = {"discriminator": lambda features: features @ weights}
    return fixed.value(
        build("adda"),
        phase,
        SOURCE if phase == FIT else None,
        TARGET._replace(features=target),
        networks=networks,
        memory=memory,
        forward=forward,
    )


def test_addas_discriminator_compares_the_sources_own_encoder_with_the_targets() -> None:
    value, terms = adda_value(FIT)
    expected = fixed.domain_loss(float64(KEPT) @ WEIGHTS, float64(TARGET.features) @ WEIGHTS)
    fixed.assert_close(value, expected)
    fixed.assert_close(terms["domain"], expected)


def test_addas_encoder_minimises_the_loss_of_inverted_labels() -> None:
    def inverted(target: np.ndarray) -> float:
        return float(np.log1p(np.exp(-(target @ float64(WEIGHTS)))).mean())

    value, terms = adda_value(ADAPT)
    fixed.assert_close((value, terms["mapping"]), (inverted(float64(TARGET.features)),) * 2)
    slope = jax.grad(lambda features: adda_value(ADAPT, features)[0])(jnp.asarray(TARGET.features))
    fixed.assert_close(slope, fixed.slope(inverted, TARGET.features), rtol=1e-4)


def test_addas_phases_move_the_discriminator_and_the_encoder_and_never_the_head() -> None:
    trains = [phase.trains for phase in build("adda").phases]
    paths = ("backbone/stem/kernel", "bottleneck/dense/kernel", "head/bias", "discriminator/first")
    moved = [{p for p in paths if any(re.fullmatch(r, p) for r in rules)} for rules in trains]
    assert moved == [{"discriminator/first"}, {"backbone/stem/kernel", "bottleneck/dense/kernel"}]


def test_adda_remembers_the_whole_trained_model_and_no_discriminator() -> None:
    start, end = test_registered.first_state("adda"), after("adda")
    trained = {name: part for name, part in start.params.items() if name != "discriminator"}
    assert toys.same(start.memory, {"source_model": trained}) and "head" in trained
    assert toys.same(start.memory, end.memory)
    assert not toys.same(start.params["bottleneck"], end.params["bottleneck"])
    assert toys.same(start.params["head"], end.params["head"])


# --- SHOT -----------------------------------------------------------------------------------------


MEMORY = {
    "predicted": np.array([[1, 0, 0, 0], [0, 0, 2, 1], [1, 1, 1, 1]], np.float32),
    "assigned": np.array([[0, 1, 0, 2], [3, 0, 0, 0], [0, 0, 0, 0]], np.float32),
}


def cosine_nearest(centroids: np.ndarray, features: np.ndarray) -> np.ndarray:
    """By a loop over examples and classes with mass."""
    labels = []
    for row in features:
        cosines = {
            label: row @ centre / (np.linalg.norm(row) * np.linalg.norm(centre))
            for label, centre in enumerate(centroids)
            if np.any(centre)
        }
        labels.append(max(cosines, key=lambda label: cosines[label]))
    return np.array(labels)


def shot_by_hand(decay: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pseudo-labels and memory: means by prediction, then means of what is nearest to them."""
    features, p = float64(TARGET.features), softmax(TARGET.logits)
    predicted = decay * MEMORY["predicted"]
    for row, probabilities in zip(features, p, strict=True):
        predicted = predicted + np.outer(probabilities, row)
    assigned = decay * MEMORY["assigned"]
    for row, label in zip(features, cosine_nearest(predicted, features), strict=True):
        assigned[label] += row
    return cosine_nearest(assigned, features), {"predicted": predicted, "assigned": assigned}


def shot_method() -> Method:
    return shot.shot(features=FEATURES, classes=CLASSES)


@pytest.mark.parametrize(("beta", "decay"), [(0.3, 0.9), (2.0, 0.0)])
def test_shot_maximises_information_and_learns_the_labels_of_the_nearest_centroids(
    beta: float, decay: float
) -> None:
    labels, memory = shot_by_hand(decay)
    assert len(set(labels)) > 1 and np.any(labels != np.argmax(TARGET.logits, axis=1))
    mean = softmax(TARGET.logits).mean(axis=0)
    information = fixed.entropies(TARGET.logits).mean() + (mean * np.log(mean)).sum()
    pseudo = fixed.cross_entropy(TARGET.logits, labels)
    settings: dict[str, Any] = {"memory": MEMORY, "beta": beta, "decay": decay}
    value, terms = fixed.value(shot_method(), 0, None, TARGET, **settings)
    fixed.assert_close((terms["information"], terms["pseudo"]), (information, pseudo))
    fixed.assert_close(value, information + beta * pseudo)
    scope = fixed.scope(shot_method(), **settings)
    found = shot_method().update_memory(None, TARGET, scope)
    for name, centroids in memory.items():
        fixed.assert_close(found[name], centroids)


def test_shots_labels_carry_no_gradient_to_the_features() -> None:
    def value(features: jax.Array) -> jax.Array:
        target = TARGET._replace(features=features)
        return fixed.value(shot_method(), 0, None, target, memory=MEMORY)[0]

    assert not np.any(jax.grad(value)(jnp.asarray(TARGET.features)))


def test_shot_never_gives_the_label_of_a_class_without_mass() -> None:
    features = -np.abs(TARGET.features)
    centroids = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [2, 1, 1, 1]], np.float32)
    assert 1 not in np.asarray(shot.nearest(features, centroids))


def test_shots_centroids_follow_the_features_of_the_batch_that_the_phase_saw() -> None:
    made, start = test_registered.run("shot"), test_registered.first_state("shot")
    assert not any(np.any(leaf) for leaf in start.memory.values())
    end = after("shot", steps=1)
    train = partition.training_modules(
        partition.label(partition.merge(start.params, start.frozen), test_registered.RULES)
    )
    outputs, _ = made.recipe.model.apply(
        partition.merge(start.params, start.frozen),
        start.stats,
        test_registered.batch(0).target.inputs,
        train=train,
        rng=None,
    )
    expected = softmax(outputs.logits).T @ float64(outputs.features)
    np.testing.assert_allclose(end.memory["predicted"], expected, rtol=1e-4, atol=1e-5)


# --- Tent and AdaBN -------------------------------------------------------------------------------


def test_tent_minimises_the_entropy_of_the_target() -> None:
    value, terms = fixed.value(build("tent"), 0, None, TARGET)
    fixed.assert_close((value, terms["entropy"]), (fixed.entropies(TARGET.logits).mean(),) * 2)


def test_tent_moves_every_scale_and_bias_of_a_norm_and_nothing_else() -> None:
    assert changed("tent") == {
        f"{layer}/norm/{name}"
        for layer in ("backbone/stage1", "bottleneck")
        for name in ("scale", "bias")
    }


def test_adabn_minimises_nothing_and_watches_the_entropy() -> None:
    def value(logits: jax.Array) -> jax.Array:
        return fixed.value(build("adabn"), 0, None, TARGET._replace(logits=logits))[0]

    zero, slope = jax.value_and_grad(value)(jnp.asarray(TARGET.logits))
    assert not zero and not np.any(slope)
    _, terms = fixed.value(build("adabn"), 0, None, TARGET)
    fixed.assert_close(terms["entropy"], fixed.entropies(TARGET.logits).mean())


def test_adabn_changes_statistics_and_no_bit_of_anything_else() -> None:
    """Though all parameters may train, with momentum and weight decay."""
    start, end = test_registered.first_state("adabn"), after("adabn")
    assert float(test_registered.run("adabn").hyper["weight_decay"]) > 0
    unchanged = {"params", "frozen", "memory", "optimizer", "seed"}
    for field in unchanged:
        assert toys.same(getattr(start, field), getattr(end, field)), field
    assert set(start._fields) == unchanged | {"step", "stats"}
    assert not toys.same(start.stats, end.stats)


@pytest.mark.parametrize("name", ["adabn", "tent"])
def test_the_statistics_become_the_targets_where_a_norm_trains(name: str) -> None:
    start, end = test_registered.first_state(name), after(name, steps=1)
    params = jax.tree.map(float64, partition.merge(start.params, start.frozen)["backbone"])
    stem = jax.tree.map(float64, start.stats["backbone"]["stem"]["norm"])
    target = float64(test_registered.batch(0).target.inputs)
    normal = (target @ params["stem"]["dense"]["kernel"] - stem["mean"]) / np.sqrt(
        stem["var"] + 1e-5
    )
    norm = params["stem"]["norm"]
    hidden = np.maximum(normal * norm["scale"] + norm["bias"], 0)
    hidden = hidden @ params["stage1"]["dense"]["kernel"]
    before = start.stats["backbone"]["stage1"]["norm"]
    found = end.stats["backbone"]["stage1"]["norm"]
    for statistic, of_target in {"mean": hidden.mean(0), "var": hidden.var(0)}.items():
        expected = 0.9 * float64(before[statistic]) + 0.1 * of_target
        np.testing.assert_allclose(found[statistic], expected, rtol=1e-4, atol=1e-5)
    assert toys.same(start.stats["backbone"]["stem"], end.stats["backbone"]["stem"])


# --- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOURCE_FREE)
def test_other_examples_of_the_source_change_nothing(name: str) -> None:
    assert toys.same(after(name), after(name, elsewhere=True))


def test_adda_reads_the_source_and_that_changes_something() -> None:
    assert not toys.same(after("adda").params, after("adda", elsewhere=True).params)


@pytest.mark.parametrize("name", ["adda", *SOURCE_FREE])
def test_the_head_of_the_trained_model_stays_as_it_is(name: str) -> None:
    start, end = test_registered.first_state(name), after(name)
    assert toys.same(start.params["head"], end.params["head"])
