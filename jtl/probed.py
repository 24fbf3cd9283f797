"""What ``jtl probe`` does: fits probes on what backbones make of labelled data, and reports them.

Nothing is chosen by a test example: logistic regression gets its strength from folds of the
training examples, ridge from leaving each of them out.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jtl import metrics, plots, probing, runtime, sharding, workdir
from jtl.data.examples import Examples
from jtl.errors import UserError
from jtl.log import percent
from jtl.manifest import manifest, write_json
from jtl.prepare import Run, Shared, prepare
from jtl.report import Picture, Table, write_study_report

STRENGTHS = np.logspace(0, -7, 29)
"""That are tried, in parts of the variance of the features."""
FOLDS = 5
COLUMNS = ("backbone", "probe", "strength", "held out, %", "test accuracy, %", "target, %")
PROTOCOL = (
    "A probe is one linear layer on the features of the backbone, which is not trained.",
    f"{len(STRENGTHS)} strengths are tried, in parts of the variance of the features. Of logistic "
    f"regression the one of the least log loss over {FOLDS} folds of the training examples is "
    "taken, of ridge the one of the least squared error at examples left out one by one. Both "
    "are then fitted on all training examples.",
    "Test examples, and the target's, are read for the numbers of this page and nothing else.",
    "Intervals of 95 % are of a bootstrap over test examples.",
)


class Probe(NamedTuple):
    """A kind of probe on a backbone.

    Attributes:
      curve: what held-out examples say of the strengths.
      chosen: which of them is taken.
      coefficients, intercepts: of the fit on all training examples.
    """

    curve: plots.Curve
    chosen: int
    coefficients: np.ndarray
    intercepts: np.ndarray


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
        probes = fit(prepared)
        summary[config.model.backbone] = {
            kind: _summary(prepared, probe) for kind, probe in probes.items()
        }
        figures.append(_curves(config.model.backbone, probes))
        more[f"Classes, {config.model.backbone}"] = _classes(prepared, probes)
        weights |= prepared.net.weights
        domains = vars(prepared.domains).values()
        data |= {part.name: part.sha256() for part in domains if part is not None}
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


def fit(prepared: Run) -> dict[str, Probe]:
    """Both kinds of probe on the training examples of a run, by their names."""
    train = _features(prepared, prepared.labelled, prepared.labelled)
    labels = prepared.labelled.known_labels()
    fewest = int(np.bincount(labels, minlength=2).min())
    folds = probing.deal(labels, max(2, min(FOLDS, fewest)))
    strengths = STRENGTHS * float(np.var(train, axis=0, dtype=np.float64).sum() or 1.0)
    path = probing.logistic_path(train, labels, strengths, folds)
    losses = path.losses.mean((1, 2))
    best = int(losses.argmin())
    logistic = Probe(
        plots.Curve(STRENGTHS, losses, "held-out log loss", path.right.mean((1, 2))),
        best,
        path.coefficients[best, -1],
        path.intercepts[best, -1],
    )
    ridges = probing.ridge_path(train, labels, strengths)
    best = int(ridges.errors.argmin())
    ridge = Probe(
        plots.Curve(STRENGTHS, ridges.errors, "squared error, left out", ridges.right.mean(1)),
        best,
        ridges.coefficients[best],
        ridges.intercepts[best],
    )
    return {"logistic": logistic, "ridge": ridge}


def _features(prepared: Run, examples: Examples, stored: Examples) -> np.ndarray:
    """What the backbone makes of examples: it may be stored already."""
    found = stored if prepared.net.cut else prepared.net.embedding(examples)
    return found.array().reshape(len(found), -1)


def _tests(prepared: Run) -> dict[str, tuple[Examples, Examples]]:
    """The labelled test sets, as they came and as they are stored."""
    found = {}
    for split in ("source_test", "target_test"):
        examples = getattr(prepared.domains, split)
        if examples is not None and examples.labels is not None:
            found[split] = examples, getattr(prepared.stored, split)
    return found


def _scores(prepared: Run, probe: Probe) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What a probe makes of each test set, ``[examples, classes]``, and its labels."""
    return {
        split: (
            _features(prepared, *parts) @ probe.coefficients + probe.intercepts,
            parts[0].known_labels(),
        )
        for split, parts in _tests(prepared).items()
    }


def _summary(prepared: Run, probe: Probe) -> dict[str, Any]:
    """What summary.json says of a probe."""
    curve, classes = probe.curve, prepared.domains.source_train.classes
    said: dict[str, Any] = {
        "strength": float(curve.strengths[probe.chosen]),
        "held_out_accuracy": float(curve.accuracies[probe.chosen]),
        "curve": {
            "strengths": [float(each) for each in curve.strengths],
            curve.named.replace(",", "").replace(" ", "_"): [float(each) for each in curve.errors],
            "accuracies": [float(each) for each in curve.accuracies],
        },
    }
    for split, (scores, labels) in _scores(prepared, probe).items():
        right = (scores.argmax(1) == labels).astype(np.float64)
        share = metrics.per_class_accuracy(np.asarray(jax.nn.softmax(scores)), labels)
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
            rows.append([backbone, kind, f"{said['strength']:.2g}", held, *tested])
    return rows


def _curves(backbone: str, probes: Mapping[str, Probe]) -> Picture:
    caption = "What training examples that a fit has not seen say; the dot is what was taken."
    figure = plots.strength_curves({kind: probe.curve for kind, probe in probes.items()})
    return f"Strengths, {backbone}", caption, figure


def _classes(prepared: Run, probes: Mapping[str, Probe]) -> Table:
    """How many of each class are recognised, on each test set."""
    classes, columns, cells = prepared.domains.source_train.classes, ["class"], []
    for kind, probe in probes.items():
        for split, (scores, labels) in _scores(prepared, probe).items():
            columns.append(f"{kind}, {split.replace('_', ' ')}, %")
            guesses = scores.argmax(1)
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
        if said["strength"] in edge
    ]
    write_study_report(
        folder / workdir.REPORT,
        title=folder.name,
        question=f"What does a linear layer read from frozen features of {data.source}"
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
