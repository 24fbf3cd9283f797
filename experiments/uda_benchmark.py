"""Which methods of unsupervised domain adaptation help, where, and who can tell without labels?

    ./launch.sh experiments/uda_benchmark.py

Every method on four tasks, five seeds, three candidate settings each, on stored features.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np
from ml_collections import ConfigDict

from jtl import metrics, plots
from jtl.catalogue import METHODS
from jtl.configuration import like
from jtl.records.report import Picture, Table
from jtl.registry import VALIDATORS
from jtl.studies.selection import Summary, select
from jtl.studies.study import Findings, Results, Study, spread
from jtl.validators import POOL_VALIDATORS

ByTask = Mapping[str, Mapping[int, float]]
"""Accuracies by task and seed."""

TASKS = {
    "google": "Google to Twitter",
    "twitter": "Twitter to Google",
    "mnist": "MNIST to optdigits",
    "optdigits": "optdigits to MNIST",
}
OTHER = {"mnist": "optdigits", "optdigits": "mnist"}
PRETRAINED = {"mnist": "runs/digits_pretrain", "optdigits": "runs/optdigits_pretrain"}
BASELINE, NORMED, ORACLE = "source-only", "source-only-batch-norm", "target-supervised"
VARIANTS = {"cdan": ("cdan_e",), "bsp": ("bsp_dann",)}
"""Configs of a method beside that of its name."""
FACTORS = {"third": 0.3, "published": 1.0, "triple": 3.0}
STEPS, WIDTH = 1000, 256
"""At most: of training, and of the methods' own networks, which most authors have 1024 wide."""
CHOSEN_BY = "information_maximization"
PROTOCOL = (
    "Emoji: an ImageNet-pretrained EfficientNet-Lite0 stays as it is, a bottleneck and a head "
    "train. Digits: the convolutions of a network pretrained on the source stay as they are, its "
    "dense layer, a bottleneck and a head train.",
    f"Training takes {STEPS} steps; of tent and adabn 100 and of shot 112, as in their configs. "
    f"The methods' own networks (discriminators, critics) are {WIDTH} wide, not 1024 as in most "
    "authors' code, for the time of it; the critic of wdgrl has its published 100.",
    "Every method has three candidates: 0.3, 1 and 3 times its published strengths, or, where it "
    "has none, times the learning rate. Everything else is as in its config for emoji.",
    f"Of the three, {CHOSEN_BY} chooses for each task and seed; it reads no label. The oracle "
    "chooses by accuracy on the target's test labels, which no one has.",
    "A method that starts from a trained model starts from the published candidate of the "
    "source-only run of its seed.",
    "The model of the last step is tested. Emoji: every seed draws its own split. Digits: one "
    "split, so that the pretrained network has seen no test example.",
    "In the bottleneck is a layer norm; for afn, tent and adabn, as their authors have it, a batch "
    f"norm: these are compared with {NORMED}, the others with {BASELINE}.",
    "The tests are over pairs of the same task and seed: exact two-sided sign-flip tests, each "
    "read alone (no correction for their number).",
)


def methods() -> tuple[str, ...]:
    """Those that adapt, after what they are compared with."""
    adapting = [n for n, entry in METHODS.items() if entry.target and n != "target_supervised"]
    named = (each for name in adapting for each in (name, *VARIANTS.get(name, ())))
    return (BASELINE, NORMED, ORACLE, *named)


def study() -> Study:
    """Each method on each task with each candidate and seed."""
    keys = [(m, task, factor) for task in TASKS for m in methods() for factor in FACTORS]
    return Study(
        question="Which methods of unsupervised domain adaptation help, and where?",
        protocol=PROTOCOL,
        config=config,
        keys=keys,
        seeds=range(5),
        conclude=conclude,
        complete=False,
        needs={PRETRAINED[source]: pretraining(source) for source in PRETRAINED},
        initial={
            (m, task, factor): (baseline(m), task, "published")
            for m, task, factor in keys
            if m in METHODS and METHODS[m].initial
        },
    )


def pretraining(source: str) -> ConfigDict:
    """The network that the digits start from, trained on their source alone."""
    made = like(__file__, "../configs/digits_pretrain.py")
    made.data.source = f"embedded:{source}"
    return made


def config(method: str, task: str, factor: str, seed: int) -> ConfigDict:
    """One run: as the method's config for emoji, on the task's data."""
    made = _for_emoji(method, task if task not in OTHER else "google")
    entry = METHODS[made.method.name]
    if "width" in entry.settings:
        made.method.width = min(entry.settings["width"][0], WIDTH)
    made.steps = made.eval_every = made.checkpoint_every = min(made.steps, STEPS)
    made.seed = made.data.split_seed = seed
    made.keep.examples = 10_000  # all: validators choose among these runs
    strengths = [name for name in entry.scaled if name in entry.settings]
    for name in strengths:
        made.method[name] *= FACTORS[factor]
    if not strengths:
        made.optimizer.learning_rate *= FACTORS[factor]
    if task in OTHER:
        _digits(made, task)
    return made


@cache
def baseline(method: str) -> str:
    """What a method is compared with, and starts from if it starts from a trained model."""
    return NORMED if _for_emoji(method, "google").model.norm == "batch" else BASELINE


def _for_emoji(method: str, source: str) -> ConfigDict:
    file = "source_only" if method == NORMED else method.replace("-", "_")
    made = like(__file__, f"../configs/emoji_{file}.py", source)
    made.model.initial = ""
    if method == NORMED:
        made.model.norm = "batch"
    return made


def _digits(made: ConfigDict, source: str) -> None:
    made.data.source, made.data.target = f"embedded:{source}", f"embedded:{OTHER[source]}"
    made.data.split_seed = 0
    made.model.backbone = f"run:{PRETRAINED[source]}"
    stages = ("backbone/stage.*", "freeze")
    made.partition = tuple(stages if rule[0] == "backbone/.*" else rule for rule in made.partition)


# --- what it says ---------------------------------------------------------------------------------


def accuracy(summary: Summary) -> float:
    """On the target's test examples."""
    return summary["target_test"]["accuracy"]["value"]


def candidates(results: Results, method: str, task: str) -> dict[int, list[Summary]]:
    """The finished runs that a validator chooses among, by seed."""
    found: dict[int, list[Summary]] = {}
    for factor in FACTORS:
        for seed, summary in results[method, task, factor].items():
            found.setdefault(seed, []).append(summary)
    return dict(sorted(found.items()))


def chosen(results: Results, method: str, validator: str) -> ByTask:
    """The accuracy of the validator's choices, by task and seed; the oracle is a validator too."""
    return {
        task: {
            seed: max(map(accuracy, among))
            if validator == "oracle"
            else accuracy(select(among, validator))
            for seed, among in candidates(results, method, task).items()
        }
        for task in TASKS
    }


def conclude(results: Results) -> Findings:
    """A row a method: the choice made without labels, and its gain over source-only by pairs."""
    by = {method: chosen(results, method, CHOSEN_BY) for method in methods()}
    rows, helped, useless = [], [], []
    for method, accuracies in by.items():
        row, pairs = [method, *_cells(accuracies)], _pairs(accuracies, by[baseline(method)])
        if method in (BASELINE, NORMED) or pairs.shape[1] < 2:
            rows.append([*row, "", ""])
            continue
        gain = metrics.paired_test(*pairs)
        rows.append([*row, f"{100 * gain.difference:+.1f}", f"{gain.p_value:.2g}"])
        if method != ORACLE:
            helps = gain.difference > 0 and gain.p_value < 0.05
            (helped if helps else useless).append(method)
    return Findings(
        answer=f"Over the four tasks {len(helped)} of {len(helped) + len(useless)} methods beat "
        f"source-only (p < 0.05): {', '.join(helped)}.",
        columns=["target accuracy, %", *TASKS.values(), "gain", "p"],
        rows=rows,
        figures=[_picture(by)],
        notes=[f"No help shown over source-only: {', '.join(useless)}."] if useless else [],
        more={"chosen_by_an_oracle": _oracle_table(results), "validators": _regrets(results)},
    )


def _cells(accuracies: ByTask) -> list[str]:
    return [spread([*accuracies[task].values()]) if accuracies[task] else "" for task in TASKS]


def _pairs(ours: ByTask, theirs: ByTask) -> np.ndarray:
    """Of the tasks and seeds that both have finished: [2, pairs]."""
    both = [(t, seed) for t in TASKS for seed in ours[t] if seed in theirs[t]]
    return np.array([[each[t][seed] for t, seed in both] for each in (ours, theirs)]).reshape(2, -1)


def _picture(by: dict[str, ByTask]) -> Picture:
    panels = {name: {m: [*by[m][t].values()] for m in by if by[m][t]} for t, name in TASKS.items()}
    figure = plots.method_comparison(panels, baseline=BASELINE, oracles=(ORACLE,))
    caption = f"Chosen by {CHOSEN_BY}; mean, deviation, every seed. The line is source-only."
    return "Target accuracy", caption, figure


def _oracle_table(results: Results) -> Table:
    rows = [[method, *_cells(chosen(results, method, "oracle"))] for method in methods()]
    return ["target accuracy, %", *TASKS.values()], rows


def _regrets(results: Results) -> Table:
    """How much accuracy each validator's choices lose to the oracle's, over methods and seeds."""
    judged = [method for method in methods() if method != ORACLE]
    best = {method: chosen(results, method, "oracle") for method in judged}
    rows = []
    for name in (*VALIDATORS, *POOL_VALIDATORS):
        lost = [
            (task, best[method][task][seed] - reached)
            for method in judged
            for task, by_seed in chosen(results, method, name).items()
            for seed, reached in by_seed.items()
        ]
        means = [np.mean([each for its, each in lost if its == task]) for task in TASKS]
        everywhere = np.mean([each for _, each in lost])
        rows.append([name, *(f"{100 * mean:.2f}" for mean in (*means, everywhere))])
    return ["mean regret, points", *TASKS.values(), "all"], rows
