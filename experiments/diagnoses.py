"""Why do some methods not help? Each beside what is to cure it, or to make it worse.

    ./launch.sh experiments/diagnoses.py

On three tasks of the benchmarks, five seeds. docs/methods.md reads the table.
"""

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jtl import plots
from jtl.configuration import like
from jtl.records.log import read_metrics
from jtl.records.report import Picture
from jtl.records.workdir import METRICS
from jtl.studies.study import Findings, Key, Results, Study, spread, values

STEPS, WIDTH = 1000, 256
"""Of adaptation, and of its discriminators: as in uda_benchmark."""
EMOJI, DIGITS, LABELS = "emoji", "digits", "labels"
TASKS = {
    EMOJI: "Google to Twitter",
    DIGITS: "MNIST to optdigits",
    LABELS: "optdigits to MNIST, 20 labels a class",
}
BASELINES = {EMOJI: "source-only", DIGITS: "source-only", LABELS: "full"}
MNIST, OPTDIGITS = "runs/digits_pretrain", "runs/optdigits_pretrain"
BATCH_NORM = "_batch_norm"
"""What the folder of the pretrained network with batch norm ends in."""
PLAIN, NORMED = "plain", "batch-norm"

HEAD, REST = ("head/.*", "train"), (".*", "freeze")
SLOW_FACTORS = ((".*_lora_[ab]", "slow"), HEAD, REST)
AND_BIASES = ((".*_lora_[ab]|backbone/.*/bias", "train"), HEAD, REST)
CASES: dict[Key, dict[str, Any]] = {
    (EMOJI, "source-only", PLAIN): {},
    (EMOJI, "source-only", NORMED): {"model.norm": "batch"},
    (EMOJI, "dann", PLAIN): {},
    (EMOJI, "dann", "width-1024"): {"method.width": 1024},
    (EMOJI, "cdan", PLAIN): {},
    (EMOJI, "cdan", "width-1024"): {"method.width": 1024},
    (EMOJI, "cdan", "as-in-config"): {"method.width": 1024, "steps": 2 * STEPS},
    (EMOJI, "cdan", "detached"): {"method.detach": True},
    (EMOJI, "afn", PLAIN): {},
    (EMOJI, "afn", "layer-norm"): {"model.norm": "layer"},
    (EMOJI, "mcd", PLAIN): {},
    (EMOJI, "mcd", "dropout"): {"model.dropout": 0.5},
    (EMOJI, "entropy-minimization", PLAIN): {},
    (EMOJI, "tent", PLAIN): {},
    (EMOJI, "tent", "1000-steps"): {"steps": STEPS},
    (EMOJI, "vada", PLAIN): {},
    (EMOJI, "vada", "strength-1"): {"method.strength": 1.0},
    (DIGITS, "source-only", PLAIN): {},
    (DIGITS, "dann", PLAIN): {},
    (DIGITS, "vada", PLAIN): {},
    (DIGITS, "vada", "strength-0.1"): {"method.strength": 0.1},
    (DIGITS, "vada", "strength-1"): {"method.strength": 1.0},
    (LABELS, "full", PLAIN): {},
    (LABELS, "full", NORMED): {"model.backbone": f"run:{OPTDIGITS}{BATCH_NORM}"},
    (LABELS, "full", "frozen-batch-norm"): {
        "model.backbone": f"run:{OPTDIGITS}{BATCH_NORM}",
        "batch_norm": "frozen",
    },
    (LABELS, "lora", PLAIN): {},
    (LABELS, "lora", "slower"): {"partition": SLOW_FACTORS, "optimizer.groups.slow": 0.1},
    (LABELS, "lora", "biases"): {"partition": AND_BIASES},
    (LABELS, "lora", "rank-16"): {"model.lora.rank": 16, "model.lora.alpha": 16.0},
}
"""Task, method and variant, and what of the method's config is changed for it."""
TERMS = {
    "dann": "domain",
    "cdan": "domain",
    "vada": "domain",
    "afn": "task",
    "mcd": "split_heads/discrepancy",
    "entropy-minimization": "entropy",
    "tent": "entropy",
}
"""The term of a method that tells what happened; of the others it is the loss."""
PROTOCOL = (
    "Google to Twitter: emoji, labelled and unlabelled; an ImageNet-pretrained EfficientNet-Lite0 "
    "stays as it is, a bottleneck and a head train. Each seed draws its own split.",
    "MNIST to optdigits: labelled and unlabelled; the convolutions of a network pretrained on the "
    "source stay as they are, its dense layer, a bottleneck and a head train. One split.",
    "optdigits to MNIST: a small convolutional network pretrained on the former learns from 20 "
    "labels a class of the latter, as in fine_tuning_benchmark. Each seed draws its own labels.",
    f"Each as in its config, but for what its second name says. Adaptation takes {STEPS} steps at "
    f"most, its discriminators are {WIDTH} wide.",
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
        needs={
            MNIST: like(__file__, "../configs/digits_pretrain.py"),
            OPTDIGITS: _pretraining("random:digits-convnet"),
            OPTDIGITS + BATCH_NORM: _pretraining("random:digits-convnet-bn"),
        },
        initial={key: (EMOJI, "source-only", NORMED) for key in CASES if key[1] == "tent"},
    )


def _pretraining(backbone: str) -> ConfigDict:
    made = like(__file__, "../configs/digits_pretrain.py")
    made.data.source, made.model.backbone = "embedded:optdigits", backbone
    return made


def config(task: str, method: str, variant: str, seed: int) -> ConfigDict:
    """One run."""
    made = _fine_tuning(method) if task == LABELS else _adaptation(method)
    made.seed = seed
    if task == EMOJI:
        made.data.split_seed = seed
    if task == DIGITS:
        made.data.source, made.data.target = "embedded:mnist", "embedded:optdigits"
        made.model.backbone = f"run:{MNIST}"
        stages = ("backbone/stage.*", "freeze")
        rules = made.partition
        made.partition = tuple(stages if rule[0] == "backbone/.*" else rule for rule in rules)
    for name, value in CASES[task, method, variant].items():
        _set(made, name, value)
    made.eval_every = made.checkpoint_every = made.steps
    made.keep.examples = 10_000  # all
    return made


def _adaptation(method: str) -> ConfigDict:
    made = like(__file__, f"../configs/emoji_{method.replace('-', '_')}.py")
    made.model.initial = ""
    made.steps = min(made.steps, STEPS)
    if made.method.name in ("dann", "cdan", "vada"):
        made.method.width = WIDTH
    return made


def _fine_tuning(method: str) -> ConfigDict:
    made = like(__file__, f"../configs/digits_{'finetune' if method == 'full' else method}.py", 20)
    made.data.source, made.data.test_fraction = "embedded:mnist", 0.25
    made.model.backbone = f"run:{OPTDIGITS}"
    return made


def _set(made: ConfigDict, name: str, value: Any) -> None:
    *sections, key = name.split(".")
    for section in sections:
        made = made[section]
    made[key] = value


def conclude(results: Results) -> Findings:
    """A row a case: accuracies in both domains, and where the telling term ended."""
    rows = []
    accuracies: dict[str, dict[str, list[float]]] = {task: {} for task in TASKS}
    for key, by_seed in results.items():
        task, method, variant = key
        split = "source_test" if task == LABELS else "target_test"
        found = values(results, key, split=split)
        accuracies[task][f"{method} {variant}".removesuffix(f" {PLAIN}")] = found
        term = TERMS.get(method, "loss")
        ends = [_last(Path(run["folder"]), term) for run in by_seed.values()]
        cells = ["", ""]
        if task != LABELS:
            source = values(results, key, split="source_test")
            cells = [spread(source), _scores(by_seed.values())]
        rows.append([*key, spread(found), *cells, term.split("/")[-1], _plain_spread(ends)])
    return Findings(
        answer=f"In points of test accuracy: {', '.join(_changes(accuracies))}.",
        columns=[
            "task",
            "method",
            "variant",
            "test, %",
            "source, %",
            "score",
            "term",
            "at the end",
        ],
        rows=rows,
        figures=[_picture(task, accuracies[task]) for task in TASKS],
    )


def _picture(task: str, accuracies: dict[str, list[float]]) -> Picture:
    figure = plots.method_comparison(
        {TASKS[task]: accuracies}, baseline=BASELINES[task], domain="test"
    )
    caption = f"Mean, deviation, every seed. The line is {BASELINES[task]}."
    return f"{task.capitalize()}: test accuracy", caption, figure


def _changes(accuracies: dict[str, dict[str, list[float]]]) -> list[str]:
    """How far each variant is from its method as it is published."""
    means = {
        task: {name: 100 * statistics.mean(found) for name, found in by.items()}
        for task, by in accuracies.items()
    }
    return [
        f"{method} {variant} {means[task][f'{method} {variant}'] - means[task][method]:+.1f}"
        f" ({task})"
        for task, method, variant in CASES
        if variant != PLAIN
    ]


def _scores(runs: Iterable[Mapping[str, Any]]) -> str:
    return _plain_spread([run["validators"]["information_maximization"] for run in runs])


def _plain_spread(numbers: list[float]) -> str:
    """Mean and standard deviation, as they are."""
    return f"{statistics.mean(numbers):.3g} ± {statistics.stdev(numbers):.2g}"


def _last(folder: Path, term: str) -> float:
    """A term of training, as noted last."""
    noted = [r["values"][term] for r in read_metrics(folder / METRICS) if r["split"] == "train"]
    return noted[-1]
