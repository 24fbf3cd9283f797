"""A trained model on held-out examples."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from jtl import metrics, partition
from jtl.data.examples import Examples
from jtl.data.splits import Domains
from jtl.devices import sharding
from jtl.devices.inference import in_batches
from jtl.types import Model, Params, Stats, TrainState
from jtl.validators import VALIDATORS, score_all


class Predictions(NamedTuple):
    """What a model says of a set of examples."""

    features: Float[np.ndarray, "examples features"]
    probabilities: Float[np.ndarray, "examples classes"]


Predict = Callable[[TrainState, Examples], Predictions]


def predictor(model: Model) -> Predict:
    """Compiles a model for evaluation: nothing is dropped out, statistics are the stored ones.

    The devices that hold a state whole share the examples, and each process reads its part.
    """

    @jax.jit
    def run(params: Params, stats: Stats, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs, _ = model.apply(params, stats, inputs, train=False, rng=None)
        return outputs.features, jax.nn.softmax(outputs.logits)

    def predict(state: TrainState, examples: Examples) -> Predictions:
        params, devices = partition.merge(state.params, state.frozen), sharding.holding(state)

        def predicted(inputs: np.ndarray) -> Any:
            if devices is None:
                return run(params, state.stats, inputs)
            outputs = run(params, state.stats, sharding.from_processes(inputs, devices))
            return sharding.gathered(outputs, devices)

        outputs = in_batches(
            predicted,
            examples.inputs,
            padding=examples.padding,
            devices=devices.size if devices else 1,
            part=(jax.process_index(), jax.process_count()) if devices else (0, 1),
        )
        return Predictions(*outputs)

    return predict


def scores(
    domains: Domains, state: TrainState, predict: Predict, *, most: int
) -> dict[str, dict[str, float]]:
    """What is known of a state while it trains.

    Args:
      domains: of the run.
      state: of its model.
      predict: the model on examples.
      most: of each domain's examples, so many are read by validators, always the same: their cost
        grows with the square of it.

    Returns:
      Accuracy and log loss of each labelled test set, by its name; under "validators" the score of
      every validator that finds what it reads.
    """
    source = predict(state, domains.source_test)
    found = {"source_test": _quick_scores(source, domains.source_test)}
    target = domains.target_test
    if target is not None and target.labels is not None:
        found["target_test"] = _quick_scores(predict(state, target), target)
    labels, rows = domains.source_test.known_labels(), _some(len(domains.source_test), most)
    unlabelled = None
    if domains.target_train is not None:
        read = domains.target_train.take(_some(len(domains.target_train), most))
        unlabelled = predict(state, read)
    readable = _readable(Predictions(*(part[rows] for part in source)), labels[rows], unlabelled)
    found["validators"] = score_all(VALIDATORS, readable)
    return found


def _some(count: int, most: int) -> np.ndarray:
    """Positions, in order, of at most ``most`` of ``count`` examples."""
    draw = np.random.Generator(np.random.Philox(0))
    return np.sort(draw.permutation(count)[:most])


def _quick_scores(predictions: Predictions, examples: Examples) -> dict[str, float]:
    labels = examples.known_labels()
    return {
        "accuracy": metrics.accuracy(predictions.probabilities, labels),
        "log_loss": metrics.log_loss(predictions.probabilities, labels),
    }


def _readable(
    source: Predictions, labels: np.ndarray, target: Predictions | None
) -> dict[str, np.ndarray]:
    """What validators may read. The target arrives without its labels: they cannot be read."""
    readable = {
        "source_features": source.features,
        "source_probabilities": source.probabilities,
        "source_labels": labels,
    }
    if target is not None:
        readable["target_features"] = target.features
        readable["target_probabilities"] = target.probabilities
    return readable
