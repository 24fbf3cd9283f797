"""The end of a run: its numbers with their intervals, its model, and its report."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jtl import catalogue, evaluate, interpolation, metrics, partition, plots, runtime, workdir
from jtl.evaluate import Predictions
from jtl.log import read_metrics
from jtl.manifest import write_json
from jtl.models import lora, saved
from jtl.prepare import Run
from jtl.report import Picture, write_report
from jtl.types import TrainState
from jtl.validators import VALIDATORS

Predicted = dict[str, Predictions]
"""Predictions on "source_test" and, where there is a target, "target_test"."""
NOT_LOSSES = ("seconds", "gradient_norm")


def conclude(run: Run, state: TrainState, step: int) -> None:
    """Evaluates the state that the run ends with; writes model, report and, last, the summary."""
    predict = evaluate.predictor(run.net.trained)
    predicted, curve = predict_tests(run, state, predict), interpolated(run, state, predict)
    if not runtime.is_main_process():
        return
    write_model(run, state)
    records = read_metrics(run.folder / workdir.METRICS)
    seconds = [r["values"]["seconds"] for r in records if r["split"] == "train"][-1]
    summary = summarize(run, predicted, step, seconds) | curve
    summary["protocol"] = [remark(run), *_protocol(run, step)]
    write_predictions(run, predicted)
    _write_report(run, predicted, summary)
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
    classes = run.domains.source_train.classes
    saved.write(run.folder, plain, stats, run.net.backbone, classes)


def write_predictions(run: Run, predicted: Predicted) -> None:
    """Writes predictions.csv, atomically: a row for each test example, labelled or not."""
    classes = run.domains.source_train.classes
    file = run.folder / workdir.PREDICTIONS
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8", newline="") as opened:
        rows = csv.writer(opened, lineterminator="\n")
        rows.writerow(("name", "domain", "predicted", "confidence", "label"))
        for split, predictions in predicted.items():
            examples, domain = getattr(run.stored, split), split.removesuffix("_test")
            for index, probabilities in enumerate(predictions.probabilities):
                best = int(probabilities.argmax())
                label = "" if examples.labels is None else classes[examples.labels[index]]
                confidence = f"{probabilities[best]:.6f}"
                rows.writerow((examples.names[index], domain, classes[best], confidence, label))
    temporary.replace(file)


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


def _write_report(run: Run, predicted: Predicted, summary: dict[str, Any]) -> None:
    config = run.config
    subtitle = f"{config.method.name} on {config.data.source}"
    if config.data.target:
        subtitle = f"{config.method.name} from {config.data.source} to {config.data.target}"
    write_report(
        run.folder / workdir.REPORT,
        title=run.folder.name,
        subtitle=f"{subtitle}, {config.model.backbone}",
        summary=summary,
        config=config.to_dict(),
        manifest=workdir.manifest(run.folder),
        figures=pictures(run, _labelled(run, predicted), summary.get("interpolation", ())),
        remark=remark(run),
        notes=_protocol(run, summary["model_step"]),
    )


def remark(run: Run) -> str:
    """What the accuracy says of transfer, and what it does not."""
    target = run.domains.target_test
    if target is None:
        if run.net.backbone.weights is None:
            return "No target was used, and no pretrained weights."
        return (
            "No target was used, and no network was trained from scratch here, so this does not "
            "say what the pretrained weights bring: a run with a random: backbone, all of it "
            "trained, does."
        )
    if target.labels is None:
        return (
            f"The target's test examples have no labels, so they have no score; "
            f"{workdir.PREDICTIONS} holds what they were taken for."
        )
    if run.oracle:
        return "It was trained on labels of the target: an oracle, and no result of adaptation."
    if not catalogue.METHODS[run.config.method.name].target:
        return "Nothing was adapted to the target: this is what an adapted model has to beat."
    return (
        "No baseline was trained here, so this does not say whether adaptation helps or hurts: the "
        "same config with method.name=supervised, in another folder, does."
    )


def _protocol(run: Run, step: int) -> list[str]:
    """Who saw what."""
    said = ["Training and test examples share no identity."]
    if run.oracle:
        said.append("This is an oracle: it was trained on labels of the target.")
    elif run.domains.target_train is not None:
        said.append(
            "Training saw the target's examples without their labels; those of its test examples "
            "were read for the numbers and pictures on this page and for nothing else."
        )
    keep = run.config.keep
    if keep.model == "latest":
        said.append("The model is that of the last step: no checkpoint was chosen by a score.")
    else:
        reads = "held-out source labels" if VALIDATORS[keep.criterion].labels else "no label"
        said.append(
            f"The model is that of step {step}, the best by {keep.criterion}, which reads {reads}."
        )
    return said


def pictures(
    run: Run, predicted: Predicted, curve: Sequence[Mapping[str, Any]]
) -> Iterator[Picture]:
    """The report's pictures, drawn one by one as they are written.

    Args:
      run: finished.
      predicted: by its model, on labelled examples.
      curve: as :func:`interpolated` gives it.
    """
    classes = run.domains.source_train.classes
    scored = {
        split: (predictions.probabilities, getattr(run.stored, split).labels)
        for split, predictions in predicted.items()
    }
    curves = "Held-out accuracy is shown, never used: nothing was chosen by it."
    yield "While it trained", curves, plots.learning_curves(_losses(run))
    yield from _validators(run)
    if curve:
        caption = (
            "Accuracy of what lies between the parameters before training and after it. The model "
            "that the run leaves is the one after it."
        )
        yield "On the way from the start to the end", caption, plots.interpolation_curve(curve)
    if len(predicted) == 2:
        caption = "Held-out source and target examples, placed by the similarity of their features."
        yield "Source and target features", caption, _feature_map(run, predicted, classes)
    caption = "Each row is what the examples are, each column what they were taken for."
    yield "What is taken for what", caption, plots.confusion_matrices(scored, classes)
    split = list(scored)[-1]
    caption = (
        f"The most confident mistakes on {split.replace('_', ' ')} examples, the first two of each "
        "kind before others, and some right."
    )
    images = getattr(run.domains, split).inputs
    if images[0].ndim == 3:
        yield "Worst mistakes", caption, plots.example_grid(images, *scored[split], classes)
    caption = (
        "How often the model is right when it says how sure it is. Pale bars are of fewer than ten "
        "examples."
    )
    yield "Is its confidence earned?", caption, plots.reliability_diagram(scored)


def _validators(run: Run) -> Iterator[Picture]:
    """What each validator would have chosen among the steps that were looked at."""
    by_step: dict[str, dict[int, Any]] = {"validators": {}, "target_test": {}}
    for each in read_metrics(run.folder / workdir.METRICS):
        if each["split"] in by_step:
            by_step[each["split"]][each["step"]] = each["values"]
    steps = sorted(by_step["target_test"])[1:]  # before the first step nothing is chosen
    if len(steps) < 3:
        return
    scores = {
        name: [by_step["validators"][step][name] for step in steps]
        for name in by_step["validators"][steps[0]]
    }
    accuracies = [by_step["target_test"][step]["accuracy"] for step in steps]
    names = [f"step {step:,}" for step in steps]
    caption = (
        "The step that each validator, which reads no target label, would have chosen "
        "(docs/validators.md says what each is). The best one is known to an oracle alone."
    )
    figure = plots.validator_choices(scores, accuracies, names)
    yield "Choosing a step without target labels", caption, figure


def _losses(run: Run) -> list[dict[str, Any]]:
    records = [r for r in read_metrics(run.folder / workdir.METRICS) if r["split"] != "validators"]
    for record in records:
        values = record["values"].items()
        record["values"] = {k: v for k, v in values if not k.endswith(NOT_LOSSES)}
    return records


def _feature_map(run: Run, predicted: Predicted, classes: tuple[str, ...]) -> Any:
    embed = run.net.embedding
    source, target = run.domains.source_test, run.domains.target_test
    assert target is not None  # it was predicted
    labels = source.known_labels(), target.known_labels()
    before = [embed(examples).array() for examples in (source, target)]
    after = [predicted[split].features for split in ("source_test", "target_test")]
    came = "the vectors" if run.config.model.backbone.startswith("features:") else "the backbone"
    features = {f"before: {came} as it came": before, "after: the input of the head": after}
    stages = {
        name: plots.Domains(source, labels[0], target, labels[1])
        for name, (source, target) in features.items()
    }
    return plots.feature_map(stages, classes)
