"""What does transfer buy when labels are few?

    ./launch.sh experiments/label_efficiency.py

A backbone pretrained on MNIST against the same network from scratch, on optdigits with 1, 5 and 20
labels a class: probe, partial and full fine-tuning, five seeds each.
"""

from ml_collections import ConfigDict

from jtl import plots
from jtl.configuration import like
from jtl.studies.study import Findings, Results, Study, spread, values

SHOTS = (1, 5, 20)
PARTITIONS = {
    "probe": (("backbone/.*", "freeze"), ("head/.*", "train")),
    "partial": (
        (r"backbone/stage\d/.*", "freeze"),
        ("backbone/dense/.*", "backbone"),
        ("head/.*", "train"),
    ),
    "full": (("backbone/.*", "backbone"), ("head/.*", "train")),
    "from scratch": ((".*", "train"),),
}
PROTOCOL = (
    "Half of the 1,797 optdigits are the test set, the same for all runs; each seed draws its own "
    "labelled examples from the other half and nothing else of it is used.",
    "A set of 5 labels a class contains the seed's set of 1, and one of 20 that of 5.",
    "The backbone was trained once on 7,500 digits of MNIST; 'from scratch' is the same network.",
    "All runs have 300 steps of AdamW. New layers learn at 1e-2, pretrained ones at a tenth of it, "
    "the network from scratch at the 2e-3 of its pretraining; all fixed beforehand. The model of "
    "the last step is tested.",
)


def study() -> Study:
    """Sixty runs on one pretrained backbone."""
    pretrain = like(__file__, "../configs/digits_pretrain.py")
    return Study(
        question="What does transfer buy when labels are few?",
        protocol=PROTOCOL,
        config=config,
        keys=[(method, str(k)) for method in PARTITIONS for k in SHOTS],
        seeds=range(5),
        conclude=conclude,
        needs={"runs/digits_pretrain": pretrain},
    )


def config(method: str, k: str, seed: int) -> ConfigDict:
    """One run: what trains, on how many labels a class, and its seed."""
    made = like(__file__, "../configs/digits_finetune.py", int(k))
    made.partition = PARTITIONS[method]
    if method == "from scratch":
        made.model.backbone = "random:digits-convnet"
    if method in ("probe", "from scratch"):
        del made.optimizer.groups.backbone
    if method == "from scratch":
        made.optimizer.learning_rate = 2e-3  # that of digits_pretrain
    made.seed = seed
    made.eval_every = made.checkpoint_every = made.steps
    return made


def conclude(results: Results) -> Findings:
    """A row a method, a column a number of labels."""
    accuracies = {
        method: {k: values(results, (method, str(k)), split="source_test") for k in SHOTS}
        for method in PARTITIONS
    }
    rows = [[name, *(spread(by[k]) for k in SHOTS)] for name, by in accuracies.items()]
    notes = [
        f"{name} does not help at {_labels(k)}: from scratch reaches "
        f"{spread(accuracies['from scratch'][k])}."
        for name, by in accuracies.items()
        for k in SHOTS
        if name != "from scratch" and _mean(by[k]) < _mean(accuracies["from scratch"][k])
    ]
    few = SHOTS[0]
    best = max(accuracies, key=lambda name: _mean(accuracies[name][few]))
    return Findings(
        answer=f"With {few} label a class, {best} is best with {spread(accuracies[best][few])} %, "
        f"against {spread(accuracies['from scratch'][few])} % from scratch.",
        columns=["accuracy, %", *(_labels(k) for k in SHOTS)],
        rows=rows,
        figures=[
            (
                "Accuracy by labels",
                "Mean and standard deviation over 5 seeds; each seed is a dot.",
                plots.accuracy_by_shots(accuracies),
            )
        ],
        notes=notes,
    )


def _labels(k: int) -> str:
    return f"{k} label{'s' * (k > 1)} a class"


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)
