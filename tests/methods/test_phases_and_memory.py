"""What methods ask of the core: alternating phases, a moving teacher, a penalty from the start."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import toys

from jtl import schedules
from jtl.models.chain import classifier
from jtl.training.step import make_training
from jtl.types import Method, Phase, Scope, Source, Target, TrainState

FIT, SPLIT, MERGE = range(3)
MOVED = {
    FIT: {"backbone", "bottleneck", "head", "second_head"},
    SPLIT: {"head", "second_head"},
    MERGE: {"backbone", "bottleneck"},
}


@functools.cache
def only(phase: int) -> toys.Run:
    """MCD with one run of one phase; the others are there and never run."""
    method = toys.small_mcd()
    phases = tuple(
        dataclasses.replace(other, repeats=int(index == phase))
        for index, other in enumerate(method.phases)
    )
    return toys.Run(toys.recipe(dataclasses.replace(method, phases=phases), stages=0))


def apply(state: TrainState, *phases: int) -> TrainState:
    """These phases, all of step 0 and on its batch."""
    for phase in phases:
        after, _ = only(phase).step(state, toys.batch(0), only(phase).hyper)
        state = after._replace(step=state.step)
    return state


def warm() -> TrainState:
    """A state whose momenta are not 0."""
    return apply(toys.run("mcd", stages=0).start(), FIT)


def changed(before: Any, after: Any) -> dict[str, bool]:
    """Whether any bit of each top-level entry changed."""
    return {name: not toys.same(before[name], after[name]) for name in before}


def test_each_phase_moves_its_own_parameters_and_no_others() -> None:
    start = warm()
    for phase, moved in MOVED.items():
        end = apply(start, phase)
        found = changed(start.params, end.params)
        assert {name for name, moves in found.items() if moves} == moved, phase


def test_the_optimizer_state_of_held_groups_is_unchanged() -> None:
    start = warm()
    heads, body = sorted(start.optimizer.inner_states)
    assert (heads, body) == ("train||0,1", "train||0,2")
    for phase, moved in {FIT: {heads, body}, SPLIT: {heads}, MERGE: {body}}.items():
        end = apply(start, phase)
        found = changed(start.optimizer.inner_states, end.optimizer.inner_states)
        assert {name for name, moves in found.items() if moves} == moved, phase


def test_a_step_is_its_phases_in_order_with_their_repeats() -> None:
    run = toys.run("mcd", stages=0)
    start = run.start()
    whole, _ = run.train(1, start)
    parts = apply(start, FIT, SPLIT, MERGE, MERGE)
    for other in ((FIT, SPLIT, MERGE), (SPLIT, FIT, MERGE, MERGE), (FIT, SPLIT, *[MERGE] * 3)):
        assert toys.difference(whole.params, apply(start, *other).params) > 1e-3, other
    assert toys.difference(whole.params, parts.params) < 1e-6
    assert toys.difference(whole.stats, parts.stats) < 1e-6
    assert int(whole.step) == 1, "repeats are no steps"


def test_the_terms_of_phases_are_named_by_them() -> None:
    _, metrics = toys.run("mcd", stages=0).train(1)
    assert set(metrics) == {
        *(f"{name}/loss" for name in ("fit", "split_heads", "merge_features")),
        *(f"{name}/gradient_norm" for name in ("fit", "split_heads", "merge_features")),
        "split_heads/task",
        "split_heads/discrepancy",
    }


def test_the_heads_of_mcd_start_differently_even_where_the_model_is_a_head_alone() -> None:
    """As it is on features computed once. Equal heads would never disagree, nor part."""
    fit_only = dataclasses.replace(toys.small_mcd(), phases=toys.small_mcd().phases[:1])
    training = make_training(toys.recipe(fit_only, model=classifier(toys.blocks()[-1:])))
    params = training.init(0, toys.hyper(fit_only)).params
    assert set(params) == {"head", "second_head"}
    assert not toys.same(params["head"], params["second_head"])


def test_the_teacher_is_the_moving_average_of_the_parameters() -> None:
    run, decay, steps = toys.run("mean_teacher", stages=0), 0.9, 3
    states = [run.start()]
    for _ in range(steps):
        states.append(run.train(1, states[-1])[0])
    first, *later = [state.params for state in states]
    weights = [(1 - decay) * decay ** (steps - 1 - index) for index in range(steps)]

    def closed_form(start: Any, *values: Any) -> Any:
        parts = (weight * np.asarray(v, float) for weight, v in zip(weights, values, strict=True))
        return decay**steps * np.asarray(start, float) + sum(parts)

    expected = jax.tree.map(closed_form, first, *later)
    assert toys.same(states[0].memory["teacher"], first)
    assert toys.difference(expected, states[-1].memory["teacher"]) < 1e-6
    assert toys.difference(states[-1].params, states[-1].memory["teacher"]) > 0.01


def test_the_teachers_forward_pass_leaves_the_statistics_alone() -> None:
    """Both runs start equal and forward source and target; one forwards the teacher as well."""
    run = toys.run("mean_teacher", stages=0)
    with_teacher, metrics = run.train(1)
    without, _ = toys.run("mmd", stages=0).train(1)
    assert toys.difference(without.stats, with_teacher.stats) < 1e-6
    assert float(metrics["consistency"]) < 1e-12, "the teacher starts as the student"
    _, metrics = run.train(1, with_teacher)
    assert float(metrics["consistency"]) > 1e-6, "and lags behind it"


def test_the_average_follows_its_hyper_parameter() -> None:
    run = toys.run("mean_teacher", stages=0)
    start = run.start()
    end, _ = run.step(start, toys.batch(0), toys.hyper(run.recipe.method, decay=1.0))
    assert toys.same(start.memory, end.memory)
    assert not toys.same(start.params, end.params)


def test_the_penalty_from_the_start_is_zero_at_the_first_step_and_does_not_move_it() -> None:
    penalised, plain = toys.run("l2_start", stages=0), toys.run("supervised", stages=0)
    first, metrics = penalised.train(1)
    assert float(metrics["penalty"]) == 0.0
    assert toys.difference(plain.train(1)[0].params, first.params) < 1e-6
    _, metrics = penalised.train(1, first)
    assert float(metrics["penalty"]) > 0


def test_the_penaltys_gradient_is_the_distance_from_the_start_times_its_strength() -> None:
    penalised, plain = toys.run("l2_start", stages=0), toys.run("supervised", stages=0)
    start = penalised.start()
    first, _ = penalised.train(1, start)
    with_it, _ = penalised.train(1, first)
    without, _ = plain.train(1, first._replace(memory={}))
    rate = 0.1 * float(schedules.inverse_decay(0.1))
    nesterov = 1 + 0.9
    pull = jax.tree.map(
        lambda w, w0: -rate * nesterov * 0.2 * (np.asarray(w) - np.asarray(w0)),
        first.params,
        start.params,
    )
    found = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), with_it.params, without.params)
    # The difference of two nearly equal numbers has fewer digits.
    assert toys.difference(pull, found) < 1e-3


def test_a_step_can_consume_its_state_even_where_memory_begins_as_the_parameters() -> None:
    run = toys.run("mean_teacher", stages=0)
    start = run.start()
    expected, _ = run.step(start, toys.batch(0), run.hyper)
    consume = jax.jit(run.training.step, donate_argnums=0)
    found, _ = consume(run.start(), toys.batch(0), run.hyper)
    assert toys.same(expected, found)


def test_memory_can_follow_what_the_phases_forwarded() -> None:
    """The source is as the first phase saw it, since the second one read the target alone."""

    def on(domain: str) -> Phase:
        def objective(source: Any, target: Any, scope: Scope) -> tuple[Any, Any]:
            return {"source": source, "target": target}[domain].logits.sum(), {}

        return Phase(objective, reads=(domain,))

    def update_memory(source: Source, target: Target, scope: Scope) -> Any:
        again = scope.forward(target.inputs)
        return {"source": source.features, "target": target.features, "new": again.features}

    method = Method((on("source"), on("target")), update_memory=update_memory)
    training = make_training(toys.recipe(method, plain=True))
    start = training.init(0, toys.hyper(method))
    end, _ = jax.jit(training.step)(start, toys.batch(0), toys.hyper(method))

    def features(params: Any, inputs: Any) -> Any:
        outputs, _ = toys.dense_model().apply(params, {}, inputs, train=False, rng=None)
        return outputs.features

    batch = toys.batch(0)
    before = features(start.params, batch.source.inputs)
    assert toys.difference(before, end.memory["source"]) < 1e-6
    after = features(end.params, batch.target.inputs)
    assert toys.difference(after, end.memory["new"]) < 1e-6, "forwards through the new parameters"
    assert toys.difference(after, end.memory["target"]) > 1e-3
