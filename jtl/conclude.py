"""The end of a run: its numbers with their intervals, its model, and its report."""

from typing import TYPE_CHECKING, Any

import jax

from jtl import evaluate, metrics, partition, workdir
from jtl.log import read_metrics
from jtl.manifest import write_json
from jtl.models import saved
from jtl.types import TrainState

if TYPE_CHECKING:
    from jtl.train import Run


def conclude(run: "Run", state: TrainState) -> None:
    """Evaluates the final state and writes the model, the report and, last, the summary."""
    params = partition.merge(state.params, state.frozen)
    saved.write(run.folder, *run.net.whole(params, state.stats))
    predict = evaluate.predictor(run.net.trained)
    predictions = {
        split: predict(state, examples)
        for split in ("source_test", "target_test")
        if (examples := getattr(run.stored, split)) is not None
    }
    summary = _summary(run, predictions)
    write_json(run.folder / workdir.SUMMARY, summary)


def _summary(run: "Run", predictions: dict[str, evaluate.Predictions]) -> dict[str, Any]:
    records = read_metrics(run.folder / workdir.METRICS)
    seconds = [r["values"]["seconds"] for r in records if r["split"] == "train"][-1]
    config = run.config
    summary = {
        "method": config.method.name,
        "seed": config.seed,
        "steps": config.steps,
        "train_seconds": seconds,
        "examples_per_second": config.steps * config.batch_size / seconds,
    }
    for split, predicted in predictions.items():
        labels = getattr(run.stored, split).labels
        if labels is not None:
            summary[split] = metrics.summarize(predicted.probabilities, labels)
    return summary
