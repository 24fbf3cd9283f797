"""Stochastic normalisation: each channel by its batch or by the running statistics, at random."""

from pathlib import Path

import jax
import numpy as np
import pytest
import small_runs
import toys
from flax import nnx

from jtl.errors import UserError
from jtl.models.adapter import from_nnx
from jtl.runs import build
from jtl.runs.prepare import prepare
from jtl.training import forward
from jtl.types import Batch, Labelled, Params, Train, TrainState

CHANNELS = 2000


class Norms(nnx.Module):
    """Two norms of the same inputs, and nothing else."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.BatchNorm(CHANNELS, momentum=0.9, rngs=rngs)
        self.second = nnx.BatchNorm(CHANNELS, momentum=0.9, rngs=rngs)

    def __call__(self, x: jax.Array, *, rng: jax.Array | None = None) -> tuple[jax.Array, ...]:
        return self.first(x), self.second(x)


X = np.random.default_rng(0).normal(3, 2, size=(4, 2, 2, CHANNELS)).astype(np.float32)
MODEL = from_nnx(Norms)


def run(train: Train, key: int = 0) -> tuple[tuple[np.ndarray, ...], Params]:
    params, stats = MODEL.init(jax.random.key(0))
    outputs, after = MODEL.apply(params, stats, X, train=train, rng=jax.random.key(key))
    return jax.device_get(outputs), after


def by_batch(train: Train, key: int = 0) -> np.ndarray:
    """Which channels of both norms are normalised by the batch; the others by what is stored."""
    (outputs, _), (batch, _), (stored, _) = run(train, key), run(True), run(False)
    chosen = []
    for found, one, other in zip(outputs, batch, stored, strict=True):
        chosen.append((found == one).all(axis=(0, 1, 2)))
        assert np.array_equal(found, np.where(chosen[-1], one, other))
    return np.stack(chosen)


def test_a_channel_leaves_the_stored_statistics_with_the_probability_given() -> None:
    for share in (0.2, 0.5):
        chosen = by_batch(lambda path, share=share: share)
        deviation = (share * (1 - share) / CHANNELS) ** 0.5
        assert np.abs(chosen.mean(axis=1) - share).max() < 4 * deviation
        assert not np.array_equal(chosen[0], chosen[1]), "each norm draws for itself"
        assert not np.array_equal(chosen, by_batch(lambda path, share=share: share, key=1))
    assert by_batch(lambda path: 1.0).all() and not by_batch(lambda path: 0.0).any()
    mixed = by_batch(lambda path: 0.5 if path == "first" else False)
    assert mixed[0].any() and not mixed[0].all() and not mixed[1].any()


def test_the_running_statistics_move_as_ever() -> None:
    _, expected = run(True)
    for share in (0.0, 0.5, 1.0):
        assert toys.same(run(lambda path, share=share: share)[1], expected)


def test_norms_that_train_are_stochastic_and_nothing_else_is() -> None:
    params, stats = toys.model(stages=1).init(jax.random.key(0))
    frozen_stem = {**params, "backbone": {"stage1": params["backbone"]["stage1"]}}
    train = forward.training_mode(params, stats, frozen_stem, "stochastic", 0.25)
    assert callable(train) and train("backbone/stage1/norm") == 0.25
    assert train("backbone/stage1/dense") is True and train("bottleneck/norm") is True
    assert train("backbone/stem/norm") is False and train("backbone/stem/dense") is False


def test_a_model_without_batch_norm_is_refused() -> None:
    with pytest.raises(UserError, match="stochastic acts in batch norms, and what is trained has"):
        toys.run("supervised", plain=True, batch_norm="stochastic")


def states(folder: Path, **changes: object) -> TrainState:
    """After a step of a run with a batch norm in the bottleneck, as its config says."""
    config = small_runs.config(folder, **changes)
    config.model.norm = "batch"
    config.method = {"name": "supervised", "label_smoothing": 0.0}
    run = prepare(config, folder)
    training = build.stages(config, run.net, build.method(config, run.net.backbone, classes=3))[0]
    state = training.training.init(0, run.hyper, run.net.start())
    batch = Batch(Labelled(run.labelled.array()[:16], run.labelled.known_labels()[:16]), None)
    return jax.jit(training.training.step)(state, batch, run.hyper)[0]


def test_a_config_says_how_many_channels_follow_their_batch(tmp_path: Path) -> None:
    separate = states(tmp_path, batch_norm="separate")
    all_of_them = states(tmp_path, batch_norm="stochastic", batch_norm_share=1.0)
    none = states(tmp_path, batch_norm="stochastic", batch_norm_share=0.0)
    frozen = states(tmp_path, batch_norm="frozen")
    assert toys.difference(separate.params, all_of_them.params) < 1e-6
    assert toys.difference(frozen.params, none.params) < 1e-6
    assert toys.difference(separate.params, none.params) > 1e-3
    assert toys.same(none.stats, separate.stats) and not toys.same(none.stats, frozen.stats)
