"""A trained model on held-out examples."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from jtl import metrics, partition
from jtl.data.examples import Examples
from jtl.inference import in_batches
from jtl.types import Model, Params, Stats, TrainState
from jtl.validators import Validator


class Predictions(NamedTuple):
    """What a model says of a set of examples."""

    features: Float[np.ndarray, "examples features"]
    probabilities: Float[np.ndarray, "examples classes"]


Predict = Callable[[TrainState, Examples], Predictions]


def predictor(model: Model) -> Predict:
    """Compiles a model for evaluation: nothing is dropped out, statistics are the stored ones."""

    @jax.jit
    def run(params: Params, stats: Stats, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs, _ = model.apply(params, stats, inputs, train=False, rng=None)
        return outputs.features, jax.nn.softmax(outputs.logits)

    def predict(state: TrainState, examples: Examples) -> Predictions:
        params = partition.merge(state.params, state.frozen)
        outputs = in_batches(lambda inputs: run(params, state.stats, inputs), examples.inputs)
        return Predictions(*outputs)

    return predict


def quick_scores(predictions: Predictions, examples: Examples) -> dict[str, float]:
    """What is logged during training; nothing for examples without labels."""
    if examples.labels is None:
        return {}
    return {
        "accuracy": metrics.accuracy(predictions.probabilities, examples.labels),
        "log_loss": metrics.log_loss(predictions.probabilities, examples.labels),
    }


def selection_score(
    validator: Validator,
    source: tuple[Predictions, Examples],
    target: Predictions | None,
) -> float:
    """The score of a checkpoint. The target arrives without its labels: they cannot be read."""
    available = {
        "source_probabilities": source[0].probabilities,
        "source_labels": source[1].known_labels(),
    }
    if target is not None:
        available |= {"target_probabilities": target.probabilities}
    return validator(available)
