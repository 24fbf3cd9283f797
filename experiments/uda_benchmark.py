"""Which methods of unsupervised domain adaptation help, where, and who can tell without labels?

    ./launch.sh experiments/uda_benchmark.py

Every method on four tasks, five seeds, three candidate settings each, on stored features.
"""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from jtl import metrics, plots
from jtl.configuration import like
from jtl.registry import METHODS
from jtl.study import Findings, Results, Study, spread
from jtl.validators import POOL_VALIDATORS

TASKS = {
    "google": "Google to Twitter",
    "twitter": "Twitter to Google",
    "mnist": "MNIST to optdigits",
    "optdigits": "optdigits to MNIST",
}
OTHER = {"mnist": "optdigits", "optdigits": "mnist"}
PRETRAINED = {"mnist": "runs/digits_pretrain", "optdigits": "runs/optdigits_pretrain"}
BASELINE, ORACLE, NORMED = "source-only", "target-supervised", "source-only-batch-norm"
FACTORS = {"third": 0.3, "published": 1.0, "triple": 3.0}
STRENGTHS: dict[str, tuple[str, ...]] = {
    BASELINE: (),
    NORMED: (),
    ORACLE: (),
    "dann": ("strength",),
    "cdan": ("strength",),
    "cdan_e": ("strength",),
    "bsp": ("spectral",),
    "mstn": ("strength", "semantic"),
    "adda": (),
    "mcd": (),
    "swd": (),
    "mdd": ("strength",),
    "wdgrl": ("strength",),
    "dan": ("strength",),
    "jan": ("strength",),
    "deep_coral": ("strength",),
    "cmd": ("strength",),
    "deep_jdot": ("alpha", "lambda_t"),
    "afn": ("strength",),
    "mcc": ("strength",),
    "bnm": ("strength",),
    "entropy_minimization": ("strength",),
    "vada": ("strength", "target_smoothness"),
    "fixmatch": ("strength",),
    "shot": ("beta",),
    "tent": (),
    "adabn": (),
}
"""What a candidate's factor multiplies: the method's strengths; where it has none, the learning
rate."""
STARTS = {"adda": BASELINE, "shot": BASELINE, "tent": NORMED, "adabn": NORMED}
WIDTH = 256
"""Of the methods' own networks. Those of most authors have 1024, four times the time."""
CHOSEN_BY = "information_maximization"
PROTOCOL = (
    "Emoji: an ImageNet-pretrained EfficientNet-Lite0 stays as it is, a bottleneck and a head "
    "train. Digits: the convolutions of a network pretrained on the source stay as they are, its "
    "dense layer, a bottleneck and a head train.",
    f"The methods' own networks (discriminators, critics) are {WIDTH} wide, not 1024 as in most "
    "authors' code, for the time of it.",
    "Every method has three candidates: 0.3, 1 and 3 times its published strengths, or, where it "
    "has none, times the learning rate. Everything else is the same for all.",
    f"Of the three, {CHOSEN_BY} chooses for each task and seed; it reads no label. The oracle "
    "chooses by accuracy on the target's test labels, which no one has.",
    "A method that starts from a trained model starts from the published candidate of the "
    "source-only run of its seed.",
    "The model of the last step is tested. Emoji: every seed draws its own split. Digits: one "
    "split, so that the pretrained network has seen no test example.",
    "The tests are over pairs of the same task and seed: exact two-sided sign-flip tests, each "
    "read alone (no correction for their number).",
)


def study() -> Study:
    """Each method on each task with each candidate and seed."""
    keys = [(m, task, factor) for task in TASKS for m in STRENGTHS for factor in FACTORS]
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
            (m, task, factor): (STARTS[m], task, "published")
            for m, task, factor in keys
            if m in STARTS
        },
    )


def pretraining(source: str) -> ConfigDict:
    """The network that the digits start from, trained on their source alone."""
    made = like(__file__, "../configs/digits_pretrain.py")
    made.data.source = f"embedded:{source}"
    return made


def config(method: str, task: str, factor: str, seed: int) -> ConfigDict:
    """One run: as the method's config for emoji, on the task's data."""
    file = "source_only" if method in (BASELINE, ORACLE, NORMED) else method
    emoji = task if task not in OTHER else "google"
    made = like(__file__, f"../configs/emoji_{file}.py", emoji)
    made.model.initial = ""
    made.model.norm = "batch" if NORMED in (method, STARTS.get(method)) else "layer"
    if method == ORACLE:
        made.method.name = "target_supervised"
    if "width" in METHODS[made.method.name].settings:
        made.method.width = WIDTH
    made.steps, made.eval_every, made.checkpoint_every = 1000, 1000, 1000
    made.seed = made.data.split_seed = seed
    for name in STRENGTHS[method]:
        made.method[name] *= FACTORS[factor]
    if not STRENGTHS[method]:
        made.optimizer.learning_rate *= FACTORS[factor]
    if task in OTHER:
        _digits(made, task)
    return made


def _digits(made: ConfigDict, source: str) -> None:
    made.data.source, made.data.target = f"embedded:{source}", f"embedded:{OTHER[source]}"
    made.data.split_seed = 0
    made.model.backbone = f"run:{PRETRAINED[source]}"
    stages = ("backbone/stage.*", "freeze")
    made.partition = tuple(stages if rule[0] == "backbone/.*" else rule for rule in made.partition)


# --- what it says ---------------------------------------------------------------------------------


def accuracy(summary: dict) -> float:
    """On the target's test examples."""
    return summary["target_test"]["accuracy"]["value"]


def candidates(results: Results, method: str, task: str, seed: int) -> list[dict]:
    """The finished runs that a validator chooses among."""
    found = (results[method, task, factor].get(seed) for factor in FACTORS)
    return [summary for summary in found if summary is not None]


def chosen(results: Results, method: str, task: str, validator: str) -> list[float]:
    """The accuracy of the validator's choice, by seed; the oracle is a validator too."""
    accuracies = []
    for seed in range(5):
        among = candidates(results, method, task, seed)
        if validator == "oracle":
            scores = [accuracy(summary) for summary in among]
        elif validator in POOL_VALIDATORS:
            arrays = [np.load(Path(s["folder"]) / "target_probabilities.npy") for s in among]
            scores = POOL_VALIDATORS[validator]([{"target_probabilities": a} for a in arrays])
        else:
            scores = [summary["validators"][validator] for summary in among]
        accuracies.append(accuracy(among[int(np.argmax(scores))]))
    return accuracies


def conclude(results: Results) -> Findings:
    """A row a method: the choice made without labels, and its gain over source-only by pairs."""
    by = {m: {t: chosen(results, m, t, CHOSEN_BY) for t in TASKS} for m in STRENGTHS}
    rows, helped, useless = [], [], []
    for method, accuracies in by.items():
        gain = metrics.paired_test(_pairs(accuracies), _pairs(by[BASELINE]))
        told = method not in (BASELINE, ORACLE, NORMED)
        if told:
            helps = gain.difference > 0 and gain.p_value < 0.05
            (helped if helps else useless).append(method)
        cells = [spread(accuracies[task]) for task in TASKS]
        shown = (
            [f"{100 * gain.difference:+.1f}", f"{gain.p_value:.2g}"]
            if method != BASELINE
            else ["", ""]
        )
        rows.append([method, *cells, *shown])
    notes = [f"No help shown over source-only: {', '.join(useless)}."] if useless else []
    return Findings(
        answer=f"Over the four tasks {len(helped)} of {len(helped) + len(useless)} methods beat "
        f"source-only (p < 0.05): {', '.join(helped)}.",
        columns=["target accuracy, %", *TASKS.values(), "gain", "p"],
        rows=rows,
        figures=[_picture(by)],
        notes=notes,
        more={"chosen_by_an_oracle": _oracle_table(results), "validators": _regrets(results)},
    )


def _pairs(accuracies: dict[str, list[float]]) -> np.ndarray:
    return np.concatenate([accuracies[task] for task in TASKS])


def _picture(by: dict[str, dict[str, list[float]]]) -> tuple:
    panels = {name: {method: by[method][task] for method in by} for task, name in TASKS.items()}
    figure = plots.method_comparison(panels, oracles=(ORACLE,))
    return "Target accuracy", f"Chosen by {CHOSEN_BY}; mean, deviation, and every seed.", figure


def _oracle_table(results: Results) -> tuple[list[str], list[list[str]]]:
    rows = [
        [method, *(spread(chosen(results, method, task, "oracle")) for task in TASKS)]
        for method in STRENGTHS
    ]
    return ["target accuracy, %", *TASKS.values()], rows


def _regrets(results: Results) -> tuple[list[str], list[list[str]]]:
    """How much accuracy each validator's choices lose to the oracle's, over methods and seeds."""
    names = [*next(iter(results[BASELINE, "google", "published"].values()))["validators"], "ensv"]
    rows = []
    for name in names:
        lost = {
            task: np.concatenate(
                [
                    np.subtract(
                        chosen(results, method, task, "oracle"), chosen(results, method, task, name)
                    )
                    for method in STRENGTHS
                    if method != ORACLE
                ]
            )
            for task in TASKS
        }
        cells = [f"{100 * lost[task].mean():.2f}" for task in TASKS]
        everywhere = 100 * np.concatenate(list(lost.values())).mean()
        rows.append([name, *cells, f"{everywhere:.2f}"])
    return ["mean regret, points", *TASKS.values(), "all"], rows
