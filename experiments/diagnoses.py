"""Why do some methods not help? Each beside what is to cure it, or to make it worse.

    ./launch.sh experiments/diagnoses.py

Google to Twitter, five seeds. docs/methods.md reads the table.
"""

import statistics
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jtl import plots
from jtl.configuration import like
from jtl.log import read_metrics
from jtl.study import Findings, Key, Results, Study, spread, values
from jtl.workdir import METRICS

STEPS, WIDTH = 1000, 256
"""Of training, and of discriminators: as in uda_benchmark."""
PLAIN = "plain"


class Case(NamedTuple):
    """A config, what is changed in it, and the term whose last value tells what happened."""

    config: str
    term: str
    changes: tuple[tuple[str, Any], ...] = ()


NORMED: Key = ("source-only", "batch-norm")
CASES: dict[Key, Case] = {
    ("source-only", PLAIN): Case("source_only", "loss"),
    NORMED: Case("source_only", "loss", (("model.norm", "batch"),)),
    ("dann", PLAIN): Case("dann", "domain"),
    ("cdan", PLAIN): Case("cdan", "domain"),
    ("cdan", "detached"): Case("cdan", "domain", (("method.detach", True),)),
    ("afn", PLAIN): Case("afn", "task"),
    ("afn", "layer-norm"): Case("afn", "task", (("model.norm", "layer"),)),
    ("mcd", PLAIN): Case("mcd", "split_heads/discrepancy"),
    ("mcd", "dropout"): Case("mcd", "split_heads/discrepancy", (("model.dropout", 0.5),)),
    ("entropy-minimisation", PLAIN): Case("entropy_minimization", "entropy"),
    ("tent", PLAIN): Case("tent", "entropy"),
    ("tent", "1000-steps"): Case("tent", "entropy", (("steps", STEPS),)),
}
PROTOCOL = (
    "The emoji of Google, labelled, and of Twitter, unlabelled; an ImageNet-pretrained "
    "EfficientNet-Lite0 stays as it is, a bottleneck and a head train.",
    f"Each as in its config, but for what its second name says, and for at most {STEPS} steps and "
    f"discriminators {WIDTH} wide. Each seed draws its own split.",
    "The model of the last step is tested. The score is the validator information_maximization, "
    "which reads no label; nothing is chosen by it.",
)


def study() -> Study:
    """Each method as it is published, and beside it with what should make a difference."""
    return Study(
        question="Why do some methods not help?",
        protocol=PROTOCOL,
        config=config,
        keys=list(CASES),
        seeds=range(5),
        conclude=conclude,
        initial={key: NORMED for key in CASES if key[0] == "tent"},
    )


def config(method: str, variant: str, seed: int) -> ConfigDict:
    """One run."""
    case = CASES[method, variant]
    made = like(__file__, f"../configs/emoji_{case.config}.py")
    made.model.initial = ""
    made.steps = min(made.steps, STEPS)
    if made.method.name in ("dann", "cdan"):
        made.method.width = WIDTH
    made.seed = made.data.split_seed = seed
    for name, value in case.changes:
        section, _, key = name.rpartition(".")
        (made[section] if section else made)[key] = value
    made.eval_every = made.checkpoint_every = made.steps
    return made


def conclude(results: Results) -> Findings:
    """A row a case: accuracies in both domains, and where the telling term ended."""
    rows, accuracies = [], {}
    for key, case in CASES.items():
        accuracies[" ".join(key).removesuffix(f" {PLAIN}")] = values(results, key)
        ends = [_last(Path(run["folder"]), case.term) for run in results[key].values()]
        scores = [run["validators"]["information_maximization"] for run in results[key].values()]
        cells = (
            spread(values(results, key, split=split)) for split in ("target_test", "source_test")
        )
        term = case.term.split("/")[-1]
        rows.append([*key, *cells, _plain_spread(scores), term, _plain_spread(ends)])
    figure = plots.method_comparison({"Google to Twitter": accuracies}, baseline="source-only")
    return Findings(
        answer=f"In points of target accuracy: {', '.join(_changes(accuracies))}.",
        columns=["method", "variant", "target, %", "source, %", "score", "term", "at the end"],
        rows=rows,
        figures=[
            ("Target accuracy", "Mean, deviation, every seed. The line is source-only.", figure)
        ],
    )


def _changes(accuracies: dict[str, list[float]]) -> list[str]:
    """How far each variant is from its method as it is published."""
    means = {name: 100 * statistics.mean(found) for name, found in accuracies.items()}
    return [
        f"{' '.join(key)} {means[' '.join(key)] - means[key[0]]:+.1f}"
        for key in CASES
        if key[1] != PLAIN
    ]


def _plain_spread(numbers: list[float]) -> str:
    """Mean and standard deviation, as they are."""
    return f"{statistics.mean(numbers):.3g} ± {statistics.stdev(numbers):.2g}"


def _last(folder: Path, term: str) -> float:
    """A term of training, as noted last."""
    noted = [r["values"][term] for r in read_metrics(folder / METRICS) if r["split"] == "train"]
    return noted[-1]
