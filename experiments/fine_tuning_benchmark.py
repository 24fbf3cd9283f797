"""Which way of fine-tuning is best when labels are few?

    ./launch.sh experiments/fine_tuning_benchmark.py

Every method, from MNIST to optdigits and back, with 5 and 20 labels a class, five seeds.
"""

import numpy as np
from ml_collections import ConfigDict

from jtl import metrics, plots
from jtl.configuration import like
from jtl.studies.study import Findings, Results, Study, spread, values

TASKS = {"optdigits": "MNIST to optdigits", "mnist": "optdigits to MNIST"}
PRETRAINED = {"optdigits": "runs/digits_pretrain", "mnist": "runs/optdigits_pretrain"}
NORMED = "_batch_norm"
"""What the folders of the pretrained networks with batch norm end in."""
SHOTS = (5, 20)
PLAIN, PLAIN_NORMED = "full", "full-batch-norm"
METHODS = {
    PLAIN: "digits_finetune",
    "probe": "digits_probe",
    "partial": "digits_finetune",
    "lp_ft": "digits_lp_ft",
    "gradual": "digits_gradual",
    "bitfit": "digits_bitfit",
    "lora": "digits_lora",
    "wise_ft": "digits_wise_ft",
    "l2_sp": "digits_l2_sp",
    "delta": "digits_delta",
    "bss": "digits_bss",
    "co_tuning": "digits_co_tuning",
    "bi_tuning": "digits_bi_tuning",
    "lwf": "digits_lwf",
    PLAIN_NORMED: "digits_finetune",
    "stochnorm": "digits_finetune",
}
"""Each method and the config that it is."""
BASELINES = {"stochnorm": PLAIN_NORMED}
HALF_WAY = 0.5
PROTOCOL = (
    "The backbone is a small convolutional network pretrained on the other set of digits (GroupNorm"
    f"; for stochnorm and {PLAIN_NORMED}, batch norm). All its test examples stay unseen.",
    "Half of optdigits, or a quarter of MNIST, is the test set, the same for all runs; each seed "
    "draws its own labelled examples from the rest and nothing else of it is used.",
    "All runs have 300 steps of AdamW. New layers learn at 1e-2, pretrained ones at a tenth of it. "
    "Strengths are the published ones; with so few labels there are none to choose others on.",
    "wise_ft starts from the pretrained head too, and is tested half way between start and end, as "
    "its authors propose. The others are tested as they are after the last step.",
    "The tests pair runs of one task, number of labels and seed with those of full fine-tuning: "
    "exact two-sided sign-flip tests, each read alone (no correction for their number).",
)


def study() -> Study:
    """Each method on each task with each number of labels and seed."""
    return Study(
        question="Which way of fine-tuning is best when labels are few?",
        protocol=PROTOCOL,
        config=config,
        keys=[(m, task, str(k)) for task in TASKS for k in SHOTS for m in METHODS],
        seeds=range(5),
        conclude=conclude,
        needs={
            PRETRAINED[task] + norm: pretraining(task, norm)
            for task in TASKS
            for norm in ("", NORMED)
        },
    )


def pretraining(task: str, norm: str) -> ConfigDict:
    """The network that a task starts from, trained on the other digits."""
    made = like(__file__, "../configs/digits_pretrain.py")
    made.data.source = f"embedded:{next(other for other in TASKS if other != task)}"
    if norm:
        made.model.backbone = "random:digits-convnet-bn"
    return made


def config(method: str, task: str, k: str, seed: int) -> ConfigDict:
    """One run: as the method's config, on the task's digits and labels."""
    made = like(__file__, f"../configs/{METHODS[method]}.py", int(k))
    made.data.source = f"embedded:{task}"
    made.data.test_fraction = {"optdigits": 0.5, "mnist": 0.25}[task]
    made.model.backbone = f"run:{PRETRAINED[task]}"
    if method == "partial":
        made.partition = ((r"backbone/stage\d/.*", "freeze"), *made.partition)
    if method == "wise_ft":
        made.model.initial, made.interpolate = PRETRAINED[task], (HALF_WAY,)
    if method in ("stochnorm", PLAIN_NORMED):
        made.model.backbone += NORMED
    if method == "stochnorm":
        made.batch_norm = "stochastic"
    made.seed = seed
    made.eval_every = made.checkpoint_every = made.steps
    return made


# --- what it says ---------------------------------------------------------------------------------


def accuracies(results: Results, method: str, task: str, k: int) -> list[float]:
    """On the test examples, by seed; of wise_ft, half way between start and end."""
    key = (method, task, str(k))
    if method != "wise_ft":
        return values(results, key, split="source_test")
    runs = [results[key][seed]["interpolation"][0] for seed in sorted(results[key])]
    return [run["source_test"]["accuracy"]["value"] for run in runs]


def conclude(results: Results) -> Findings:
    """A row a method: its accuracies, and its gain over full fine-tuning by pairs."""
    cases = {(task, k): f"{name}, k = {k}" for task, name in TASKS.items() for k in SHOTS}
    by = {m: {case: accuracies(results, m, *case) for case in cases} for m in METHODS}
    rows, helped, useless = [], [], []
    for method, found in by.items():
        cells = [method, *(spread(found[case]) for case in cases)]
        baseline = BASELINES.get(method, PLAIN)
        if method in (PLAIN, PLAIN_NORMED):
            rows.append([*cells, "", ""])
            continue
        pairs = [np.concatenate(list(by[each].values())) for each in (method, baseline)]
        gain = metrics.paired_test(*pairs)
        (helped if gain.difference > 0 and gain.p_value < 0.05 else useless).append(method)
        rows.append([*cells, f"{100 * gain.difference:+.1f}", f"{gain.p_value:.2g}"])
    panels = {name: {m: by[m][case] for m in by} for case, name in cases.items()}
    return Findings(
        answer=f"Over the four cases {len(helped)} of {len(helped) + len(useless)} methods beat "
        f"full fine-tuning (p < 0.05): {', '.join(helped)}.",
        columns=["accuracy, %", *cases.values(), "gain", "p"],
        rows=rows,
        figures=[
            (
                "Accuracy",
                "Mean, deviation, every seed. The line is full fine-tuning.",
                plots.method_comparison(panels, baseline=PLAIN, domain="test"),
            )
        ],
        notes=[f"No help shown over full fine-tuning: {', '.join(useless)}."] if useless else [],
    )
