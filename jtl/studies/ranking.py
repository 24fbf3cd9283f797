"""Which backbone suits one's data: scores before any training, and the accuracy that probes reach.

A study whose runs are probes of several backbones on one labelled set.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from jtl import plots, transferability
from jtl.data.batches import fetch
from jtl.models import heads
from jtl.runs.prepare import Run, Shared, prepare
from jtl.studies.study import Findings, Results, Study, spread, values

SEEDS = range(3)
CHOSEN_BY = "logme"
"""The score that the answer names a backbone by."""
BY_FEATURES = ("logme", "h_score", "transrate", "gbc")
BY_PREDICTIONS = ("leep", "nce")
"""Scores that need the head that the backbone was pretrained with."""
PROTOCOL = (
    "Three splits: each seed holds out test examples of its own, and gives the order of training.",
    "Scores read the training examples and their labels; features have a root mean square of 1.",
    "A probe is one linear layer on the features, 1,000 steps of AdamW at 1e-3 unless said "
    "otherwise. Its settings are the same for all backbones, chosen on none of them.",
    "tau is Kendall's rank correlation of a score and the accuracies, both means over the seeds. "
    "From few backbones it says little.",
)

Scores = Mapping[str, Sequence[float]]
"""By score, a value for every seed."""


def study(configs: Mapping[str, ConfigDict]) -> Study:
    """The study that trains these probes, and compares what they reach with the scores."""

    def config(name: str, seed: int) -> ConfigDict:
        made = configs[name].copy_and_resolve_references()
        made.seed = made.data.split_seed = seed
        return made

    return Study(
        question=f"Which backbone suits {next(iter(configs.values())).data.source}?",
        protocol=PROTOCOL,
        config=config,
        keys=[(name,) for name in configs],
        seeds=SEEDS,
        conclude=lambda results: _conclude(config, results),
    )


def _conclude(config: Callable[[str, int], ConfigDict], results: Results) -> Findings:
    """A row a backbone, the one of most accurate probes first."""
    accuracies, scores = {}, {}
    for (slug,), by_seed in results.items():
        name, shared = config(slug, SEEDS[0]).model.backbone, Shared()
        accuracies[name] = values(results, (slug,), split="source_test")
        found = [
            transferability_of(prepare(config(slug, seed), Path(summary["folder"]), shared))
            for seed, summary in sorted(by_seed.items())
        ]
        scores[name] = {key: [each[key] for each in found] for key in found[0]}
    order = sorted(scores, key=lambda name: -np.mean(accuracies[name]))
    means = {
        score: {
            name: float(np.mean(scores[name][score])) for name in order if score in scores[name]
        }
        for score in (*BY_FEATURES, *BY_PREDICTIONS)
    }
    reached = {name: float(np.mean(accuracies[name])) for name in order}
    rows = [
        [name, spread(accuracies[name]), *(_cell(scores[name].get(score)) for score in means)]
        for name in order
    ]
    rows.append(["tau", "", *(_tau(by, reached) for by in means.values())])
    first = max(order, key=lambda name: means[CHOSEN_BY][name])
    return Findings(
        answer=f"{CHOSEN_BY} puts {first} first, whose probes reach {spread(accuracies[first])} %; "
        f"the best probes are those of {order[0]}, {spread(accuracies[order[0]])} %.",
        columns=["backbone", "probe accuracy, %", *means],
        rows=rows,
        figures=[
            (
                "Score and accuracy",
                "Each dot a backbone: its score on the training examples, before any training, and "
                "the test accuracy of its probes; means over the seeds.",
                plots.scores_and_accuracy(means, reached),
            )
        ],
    )


def transferability_of(run: Run) -> dict[str, float]:
    """All scores of a run's backbone on its labelled training examples.

    Those of predictions are left out for a backbone without the head that it was pretrained with.
    """
    stored = run.labelled if run.net.cut else run.net.embedding(run.labelled)
    features, labels = fetch(stored, np.arange(len(stored))).inputs, stored.known_labels()
    unit = features / np.sqrt(np.mean(np.square(features, dtype=np.float64)))
    found = {name: getattr(transferability, name)(unit, labels) for name in BY_FEATURES}
    head = run.net.backbone.head
    if head is not None:
        logits, _ = heads.pretrained(head).apply(head, {}, features, train=False, rng=None)
        probabilities = np.asarray(jax.nn.softmax(logits))
        found["leep"] = transferability.leep(probabilities, labels)
        found["nce"] = transferability.nce(probabilities.argmax(axis=1), labels)
    return found


def _cell(values: Sequence[float] | None) -> str:
    """Mean and deviation, to two digits of the deviation and at most four decimals.

    >>> _cell([3110.1, 3121.6])
    '3115.8 ± 8.1'
    """
    if values is None:
        return ""
    mean = float(np.mean(values))
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    decimals = int(np.clip(1 - np.floor(np.log10(max(deviation, 1e-9))), 0, 4))
    return f"{round(mean, decimals) + 0.0:.{decimals}f} ± {deviation:.{decimals}f}"


def _tau(by_name: Mapping[str, float], reached: Mapping[str, float]) -> str:
    """Kendall's rank correlation; empty where fewer than two backbones differ in both.

    >>> _tau({"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 0.5, "b": 0.4, "c": 0.6})
    '0.33'
    >>> _tau({"a": 1.0}, {"a": 0.5, "b": 0.4})
    ''
    """
    from scipy.stats import kendalltau  # late: takes seconds to import

    if len(by_name) < 2:
        return ""
    ranked = kendalltau(list(by_name.values()), [reached[name] for name in by_name])
    tau = float(np.asarray(ranked)[0])
    return "" if np.isnan(tau) else f"{tau:.2f}"
