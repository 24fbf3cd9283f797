"""The end of a run: its numbers with their intervals, its model, and its report."""

import csv
from typing import Any

import numpy as np

from jtl import metrics, partition, registry
from jtl.devices import memory, runtime
from jtl.models import lora, saved
from jtl.records import workdir
from jtl.records.atomic import replacing
from jtl.records.log import read_metrics
from jtl.records.manifest import write_json
from jtl.runs import page
from jtl.runs.prepare import Run
from jtl.training import evaluate, interpolation
from jtl.training.evaluate import Predictions
from jtl.types import TrainState

Predicted = dict[str, Predictions]
"""Predictions on "source_test" and, where there is a target, "target_test"."""


def conclude(run: Run, state: TrainState, step: int, predict: evaluate.Predict) -> None:
    """Evaluates the state that the run ends with; writes model, report and, last, the summary."""
    predicted, curve = predict_tests(run, state, predict), interpolated(run, state, predict)
    if not runtime.is_main_process():
        return
    write_model(run, state)
    records = read_metrics(run.folder / workdir.METRICS)
    seconds = [r["values"]["seconds"] for r in records if r["split"] == "train"][-1]
    summary = summarize(run, predicted, step, seconds) | curve
    summary["protocol"] = [page.remark(run), *page.protocol(run, step)]
    write_predictions(run, predicted)
    page.write(run, _labelled(run, predicted), summary)
    write_json(run.folder / workdir.SUMMARY, summary)


def predict_tests(run: Run, state: TrainState, predict: evaluate.Predict) -> Predicted:
    """What the model says of the test sets that the run has."""
    return {
        split: predict(state, examples)
        for split in ("source_test", "target_test")
        if (examples := getattr(run.stored, split)) is not None
    }


def interpolated(run: Run, state: TrainState, predict: evaluate.Predict) -> dict[str, Any]:
    """The scores between the start and the end of training, if the config asks for any."""
    alpha, curve = run.config.model.lora.alpha, []
    for fraction in run.config.interpolate:
        on_the_way = interpolation.between(run.net.start(), state, fraction, alpha=alpha)
        scores = _scores(run, predict_tests(run, on_the_way, predict))
        curve.append({"fraction": float(fraction)} | scores)
    return {"interpolation": curve} if curve else {}


def write_target_probabilities(run: Run, state: TrainState, predict: evaluate.Predict) -> None:
    """Writes what the model says of the target's training examples, which have no labels.

    Validators that compare runs with each other (EnsV) read it.
    """
    if run.stored.target_train is not None:
        probabilities = predict(state, run.stored.target_train).probabilities
        np.save(run.folder / workdir.TARGET_PROBABILITIES, probabilities)


def write_model(run: Run, state: TrainState) -> None:
    """Writes the whole model, the frozen prefix with it."""
    trained = partition.merge(state.params, state.frozen)
    params, stats = run.net.whole(trained, state.stats)
    plain = lora.merged(params, alpha=run.config.model.lora.alpha)
    classes, data = run.domains.source_train.classes, run.config.data
    table = data.source.partition(":")[0] in registry.TABLES
    columns = {"text": data.text_column, "label": data.label_column} if table else {}
    if vectors := run.domains.source_train.columns:
        columns["vectors"] = vectors
    saved.write(
        *(run.folder, plain, stats, run.net.backbone, classes),
        columns=columns,
        compute=run.config.model.compute,
    )


def write_predictions(run: Run, predicted: Predicted) -> None:
    """Writes predictions.csv, atomically: a row for each test example, labelled or not."""
    classes = run.domains.source_train.classes
    file = run.folder / workdir.PREDICTIONS
    with replacing(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as opened:
        rows = csv.writer(opened, lineterminator="\n")
        rows.writerow(("name", "domain", "predicted", "confidence", "label"))
        for split, predictions in predicted.items():
            examples, domain = getattr(run.stored, split), split.removesuffix("_test")
            for index, probabilities in enumerate(predictions.probabilities):
                best = int(probabilities.argmax())
                label = "" if examples.labels is None else classes[examples.labels[index]]
                confidence = f"{probabilities[best]:.6f}"
                rows.writerow((examples.names[index], domain, classes[best], confidence, label))


def summarize(run: Run, predicted: Predicted, step: int, seconds: float) -> dict[str, Any]:
    """What summary.json holds. A test set without labels has no numbers.

    Args:
      run: finished.
      predicted: by its model.
      step: that the model is of.
      seconds: of training.
    """
    config, records = run.config, read_metrics(run.folder / workdir.METRICS)
    summary = {
        "method": config.method.name,
        "seed": config.seed,
        "steps": config.steps,
        "train_seconds": seconds,
        "examples_per_second": config.steps * config.batch_size / seconds,
        "peak_memory": memory.peak(),
        "model_step": step,
        "validators": next(
            r["values"] for r in records if (r["split"], r["step"]) == ("validators", step)
        ),
    }
    return summary | _scores(run, predicted)


def _scores(run: Run, predicted: Predicted) -> dict[str, Any]:
    return {
        split: metrics.summarize(predictions.probabilities, getattr(run.stored, split).labels)
        for split, predictions in _labelled(run, predicted).items()
    }


def _labelled(run: Run, predicted: Predicted) -> Predicted:
    return {
        split: predictions
        for split, predictions in predicted.items()
        if getattr(run.stored, split).labels is not None
    }
