"""What ``jtl probe`` does: probes on what backbones make of labelled data, and their report."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jtl import metrics, plots, probing
from jtl.data.examples import Examples
from jtl.devices import runtime, sharding
from jtl.errors import UserError
from jtl.probes import fits
from jtl.probes.fits import FOLDS, STRENGTHS, Probe
from jtl.probes.layers import Layers
from jtl.records import workdir
from jtl.records.log import percent
from jtl.records.manifest import manifest, write_json
from jtl.records.report import Picture, Table, write_study_report
from jtl.runs import build
from jtl.runs.prepare import Run, Shared, contents, prepare

COLUMNS = ("features", "probe", "chosen", "held out, %", "test accuracy, %", "target, %")
PROTOCOL = (
    "A probe reads the features of the backbone, which is not trained: a linear layer does, or the "
    "nearest training examples vote.",
    f"{len(STRENGTHS)} strengths are tried, in parts of the variance of the features. Of logistic "
    f"regression the one of the least log loss over {FOLDS} folds of the training examples is "
    "taken, of ridge the one of the least squared error at examples left out one by one. Both "
    "are then fitted on all training examples.",
    "How many neighbours vote is chosen by the squared error of their votes, at examples left out "
    "one by one.",
    "Test examples, and the target's, are read for the numbers of this page and nothing else.",
    "Intervals of 95 % are of a bootstrap over test examples.",
)


class Features(NamedTuple):
    """What probes are fitted on and tested with.

    Attributes:
      layer: of the backbone; "" is its last.
      train: of the labelled training examples.
      labels: their classes.
      tests: of each test set that has labels, with these.
    """

    layer: str
    train: probing.Features
    labels: np.ndarray
    tests: Mapping[str, tuple[probing.Features, np.ndarray]]


def run(configs: Mapping[str, Any], folder: Path) -> int:
    """Fits, writes ``summary.json`` and ``report.html``, and prints the accuracies.

    A folder that is finished only prints them again.

    Args:
      configs: by the backbone's name in files, checked.
      folder: of the report.

    Raises:
      UserError: the folder holds something else, the training examples cannot be fitted, or there
        are other processes.
    """
    runtime.start()
    if jax.process_count() > 1:
        raise UserError("probe runs in one process; start it without srun or mpirun")
    asked = {name: config.to_dict() for name, config in configs.items()}
    with workdir.claim(folder, asked):
        summary = workdir.summary(folder) or _fit_all(configs, folder, asked)
    for row in _rows(summary):
        print("  ".join(row))
    print(folder / workdir.REPORT)
    return 0


def _fit_all(configs: Mapping[str, Any], folder: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    started, shared = datetime.now(UTC), Shared()
    summary, figures, more = {}, [], {}
    weights, data = {}, {}
    for name, config in configs.items():
        prepared = prepare(config, folder / name, shared)
        backbone, classes = config.model.backbone, prepared.domains.source_train.classes
        fits.check(prepared.labelled)
        by_layer: dict[str, Mapping[str, Probe]] = {}
        for features in feature_sets(prepared):
            named = f"{backbone}, {features.layer}" if features.layer else backbone
            probes = fits.fit(features.train, features.labels)
            scores = _scores(features, probes)
            summary[named] = {
                kind: _summary(probe, scores[kind], features, classes)
                for kind, probe in probes.items()
            }
            figures.append(_curves(named, probes))
            more[f"Classes, {named}"] = _classes(scores, classes)
            by_layer[features.layer or "features"] = probes
        figures += [_by_layer(backbone, by_layer)] if len(by_layer) > 1 else []
        weights |= prepared.net.weights
        data |= contents(prepared.domains)
    made_with = manifest(
        seed=0,
        device=sharding.describe(sharding.mesh()),
        weights=weights,
        data=data,
        started=started,
    )
    workdir.begin(folder, asked, made_with)
    _report(folder, configs, summary, figures, more)
    write_json(folder / workdir.SUMMARY, summary)
    return summary


def feature_sets(prepared: Run) -> Iterator[Features]:
    """The features of a run's backbone: of each layer that is asked for, and its own."""
    domains, config = prepared.domains, prepared.config
    labels = prepared.labelled.known_labels()
    tests = {
        split: examples
        for split in ("source_test", "target_test")
        if (examples := getattr(domains, split)) is not None and examples.labels is not None
    }
    answers = {split: examples.known_labels() for split, examples in tests.items()}
    if config.probe.layers or config.probe.poolings:
        layers = Layers(prepared.net, config.probe.layers, _otherwise_pooled(config))
        method = build.method(
            config, prepared.net.backbone, classes=len(domains.source_train.classes)
        )
        train = layers(build.labelled(config, domains, method))
        tested = {split: layers(examples) for split, examples in tests.items()}
        for layer, rows in train.items():
            found = {split: (tested[split][layer], answers[split]) for split in tests}
            yield Features(layer, rows, labels, found)
    found = {
        split: (_features(prepared, examples, getattr(prepared.stored, split)), answers[split])
        for split, examples in tests.items()
    }
    yield Features("", _features(prepared, prepared.labelled, prepared.labelled), labels, found)


def _otherwise_pooled(config: Any) -> dict[str, Any]:
    """The backbone with each pooling that is asked for."""
    made = {}
    for pooling in filter(None, config.probe.poolings.split(",")):
        other = config.copy_and_resolve_references()
        other.model.pooling = pooling
        made[pooling] = build.backbone(other)
    return made


def _features(prepared: Run, examples: Examples, stored: Examples) -> probing.Features:
    """What the backbone makes of examples: it may be stored already, on disk where it is large."""
    found = stored if prepared.net.cut else prepared.net.embedding(examples)
    if not isinstance(found.inputs, np.ndarray):
        return probing.LazyRows(found.inputs)
    return found.inputs.reshape(len(found), -1)


def _scores(
    features: Features, probes: Mapping[str, Probe]
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """What each probe makes of each test set, ``[examples, classes]``, and its labels."""
    return {
        kind: {
            split: (fits.scores(probe, rows), labels)
            for split, (rows, labels) in features.tests.items()
        }
        for kind, probe in probes.items()
    }


def _summary(
    probe: Probe,
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
    features: Features,
    classes: tuple[str, ...],
) -> dict[str, Any]:
    """What summary.json says of a probe."""
    curve = probe.curve
    said: dict[str, Any] = {
        curve.axis: curve.tried[probe.chosen].item(),
        "features": features.train.shape[1],
        "held_out_accuracy": float(curve.accuracies[probe.chosen]),
        "curve": {
            "tried": [each.item() for each in curve.tried],
            curve.named.replace(",", "").replace(" ", "_"): [float(each) for each in curve.errors],
            "accuracies": [float(each) for each in curve.accuracies],
        },
    }
    for split, (found, labels) in scores.items():
        right = (found.argmax(1) == labels).astype(np.float64)
        share = metrics.per_class_accuracy(np.asarray(jax.nn.softmax(found)), labels)
        said[split] = {
            "accuracy": metrics.bootstrap(lambda values: float(values.mean()), right),
            "per_class": {
                name: None if np.isnan(value) else float(value)
                for name, value in zip(classes, share, strict=True)
            },
        }
    return said


def _rows(summary: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for backbone, probes in summary.items():
        for kind, said in probes.items():
            tested = [
                percent(said[split]["accuracy"]) if split in said else ""
                for split in ("source_test", "target_test")
            ]
            held = f"{100 * said['held_out_accuracy']:.1f}"
            chosen = f"{said['strength']:.2g}" if "strength" in said else str(said["neighbours"])
            rows.append([backbone, kind, chosen, held, *tested])
    return rows


def _curves(backbone: str, probes: Mapping[str, Probe]) -> Picture:
    caption = "What training examples that a fit has not seen say; the dot is what was taken."
    figure = plots.probe_curves({kind: probe.curve for kind, probe in probes.items()})
    return f"Strengths, {backbone}", caption, figure


def _by_layer(backbone: str, layers: Mapping[str, Mapping[str, Probe]]) -> Picture:
    caption = "Held-out accuracy of what was chosen for each layer; the last are the features."
    kinds = next(iter(layers.values()))
    accuracies = {
        kind: [float(found[kind].curve.accuracies[found[kind].chosen]) for found in layers.values()]
        for kind in kinds
    }
    return f"Layers, {backbone}", caption, plots.layer_curves(list(layers), accuracies)


def _classes(
    scores: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], classes: tuple[str, ...]
) -> Table:
    """How many of each class are recognised, on each test set."""
    columns, cells = ["class"], []
    for kind, tests in scores.items():
        for split, (found, labels) in tests.items():
            columns.append(f"{kind}, {split.replace('_', ' ')}, %")
            guesses = found.argmax(1)
            counts = np.bincount(labels, minlength=len(classes))
            hits = np.bincount(labels[guesses == labels], minlength=len(classes))
            cells.append(
                [
                    f"{100 * hit / count:.1f} (of {count})" if count else ""
                    for hit, count in zip(hits, counts, strict=True)
                ]
            )
    return columns, [[name, *row] for name, *row in zip(classes, *cells, strict=True)]


def _report(
    folder: Path,
    configs: Mapping[str, Any],
    summary: Mapping[str, Any],
    figures: list[Picture],
    more: Mapping[str, Table],
) -> None:
    data = next(iter(configs.values())).data
    reached = {
        (name, kind): said["source_test"]["accuracy"]
        for name, probes in summary.items()
        for kind, said in probes.items()
    }
    # By held-out training examples: the test examples choose nothing, the answer neither.
    name, kind = max(reached, key=lambda key: summary[key[0]][key[1]]["held_out_accuracy"])
    edge = {float(STRENGTHS[0]), float(STRENGTHS[-1])}
    notes = [
        f"The {kind} probe of {name} has the {said['strength']:.0e} at the end of what was tried."
        for name, probes in summary.items()
        for kind, said in probes.items()
        if said.get("strength") in edge
    ]
    write_study_report(
        folder / workdir.REPORT,
        title=folder.name,
        question=f"What does a probe read from frozen features of {data.source}"
        + (f", and of {data.target}?" if data.target else "?"),
        answer=f"Best on held-out training examples is the {kind} probe of {name}; on test "
        f"examples it reaches {percent(reached[name, kind])}.",
        protocol=PROTOCOL,
        columns=COLUMNS,
        rows=_rows(summary),
        figures=figures,
        notes=notes,
        more=more,
    )
