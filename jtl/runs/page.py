"""What the report of a run says and shows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jtl import catalogue, plots
from jtl.records import workdir
from jtl.records.log import read_metrics
from jtl.records.report import Picture, Table, write_report
from jtl.runs.prepare import Run
from jtl.training.evaluate import Predictions
from jtl.validators import VALIDATORS

NOT_LOSSES = ("seconds", "gradient_norm")
WORST = 12
"""Mistakes that are shown."""


def write(run: Run, predicted: Mapping[str, Predictions], summary: Mapping[str, Any]) -> None:
    """Writes report.html.

    Args:
      run: finished.
      predicted: by its model, on the labelled test sets that there are.
      summary: as summary.json holds it.
    """
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
        figures=pictures(run, predicted, summary.get("interpolation", ())),
        remark=remark(run),
        notes=protocol(run, summary["model_step"]),
        tables=_mistakes(run, predicted),
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


def protocol(run: Run, step: int) -> list[str]:
    """Who saw what, in sentences.

    Args:
      run: finished.
      step: that its model is of.
    """
    said = ["Training and test examples share no identity."]
    if run.oracle:
        said.append("This is an oracle: it was trained on labels of the target.")
    elif run.domains.target_train is not None:
        adapted = catalogue.METHODS[run.config.method.name].target
        saw = "the target's examples without their labels" if adapted else "none of the target"
        said.append(
            f"Training saw {saw}; labels of its test examples were read for the numbers and "
            "pictures of the report and for nothing else."
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
    run: Run, predicted: Mapping[str, Predictions], curve: Sequence[Mapping[str, Any]]
) -> Iterator[Picture]:
    """The report's pictures, drawn one by one as they are written.

    Args:
      run: finished.
      predicted: by its model, on labelled examples.
      curve: scores between the start and the end of training, or none.
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
    if _is_image(images[0]):
        yield "Worst mistakes", caption, plots.example_grid(images, *scored[split], classes)
    caption = (
        "How often the model is right when it says how sure it is. Pale bars are of fewer than ten "
        "examples."
    )
    yield "Is its confidence earned?", caption, plots.reliability_diagram(scored)


def _mistakes(run: Run, predicted: Mapping[str, Predictions]) -> dict[str, Table]:
    """The worst mistakes on what is no image, by the names of the examples: of a text, itself."""
    split = list(predicted)[-1]
    examples, probabilities = getattr(run.domains, split), predicted[split].probabilities
    if _is_image(examples.inputs[0]):
        return {}
    rows = [
        (
            examples.names[index],
            examples.classes[examples.labels[index]],
            examples.classes[probabilities[index].argmax()],
            f"{100 * probabilities[index].max():.0f}\u00a0%",
        )
        for index in plots.worst_mistakes(probabilities, examples.labels)[:WORST]
    ]
    heading = f"Worst mistakes on {split.replace('_', ' ')} examples"
    return {heading: (("Example", "Is", "Taken for", "Confidence"), rows)} if rows else {}


def _is_image(example: np.ndarray) -> bool:
    return np.ndim(example) == 3


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


def _feature_map(run: Run, predicted: Mapping[str, Predictions], classes: tuple[str, ...]) -> Any:
    embed = run.net.embedding
    source, target = run.domains.source_test, run.domains.target_test
    assert target is not None  # it was predicted
    labels = source.known_labels(), target.known_labels()
    before = [embed(examples).array() for examples in (source, target)]
    after = [predicted[split].features for split in ("source_test", "target_test")]
    came = "the vectors" if run.net.backbone.wanted is None else "the backbone as it came"
    features = {f"before: {came}": before, "after: the input of the head": after}
    stages = {
        name: plots.Domains(source, labels[0], target, labels[1])
        for name, (source, target) in features.items()
    }
    return plots.feature_map(stages, classes)
