"""How much of the gap between two drawing styles does domain-adversarial training close?

    ./launch.sh experiments/emoji_adaptation.py

Source-only, DANN and target-supervised (an oracle), in both directions, three seeds each.
"""

from ml_collections import ConfigDict

from jtl import plots
from jtl.configuration import like
from jtl.studies.study import Findings, Key, Results, Study, spread, values

METHODS = {
    "source-only": "emoji_source_only",
    "dann": "emoji_dann",
    "target-supervised": "emoji_target_supervised",
}
DIRECTIONS = {"google": "Google to Twitter", "twitter": "Twitter to Google"}
PROTOCOL = (
    "Each seed draws its own split of the 1,906 emoji: half train with labels in the source's "
    "style, a quarter without labels in the target's, a quarter test. No emoji is in two parts.",
    "The target-supervised runs are oracles: they train on labels of the target's quarter, which "
    "no other run reads.",
    "The model of the last step is tested; nothing is chosen by a score.",
    "DANN has the published strength of 1, learning rate of 0.01, momentum of 0.9 and schedules; "
    "weight decay of 1e-3 and Nesterov's form of the momentum are ours. The other two share its "
    "optimizer. None of it was tuned on target labels.",
)


def study() -> Study:
    """Eighteen runs."""
    return Study(
        question="How much of the gap between two drawing styles does DANN close?",
        protocol=PROTOCOL,
        config=config,
        keys=[(method, source) for source in DIRECTIONS for method in METHODS],
        seeds=range(3),
        conclude=conclude,
    )


def config(method: str, source: str, seed: int) -> ConfigDict:
    """One run: its method, the house that draws the source, and its seed."""
    made = like(__file__, f"../configs/{METHODS[method]}.py", source)
    made.seed = made.data.split_seed = seed
    return made


def conclude(results: Results) -> Findings:
    """A row a method, a column a direction; the gains are paired by seed."""
    notes, gains = [], {}
    rows = [
        [method, *(spread(values(results, (method, s))) for s in DIRECTIONS)] for method in METHODS
    ]
    for source, direction in DIRECTIONS.items():
        gains[direction] = _gains(results, ("dann", source), ("source-only", source))
        if min(gains[direction]) < 0:
            notes.append(f"{direction}: DANN hurts in at least one seed.")
    rows.append(["gain of dann", *(spread(gain) for gain in gains.values())])
    accuracies = {
        direction: {method: values(results, (method, source)) for method in METHODS}
        for source, direction in DIRECTIONS.items()
    }
    said = " and ".join(f"{spread(gain)} points ({name})" for name, gain in gains.items())
    figure = plots.method_comparison(
        accuracies, baseline="source-only", oracles=("target-supervised",)
    )
    return Findings(
        answer=f"DANN gains {said} over source-only, mean and standard deviation of 3 seeds.",
        columns=["target accuracy, %", *DIRECTIONS.values()],
        rows=rows,
        figures=[
            ("Target accuracy", "Mean, deviation, every seed. The line is source-only.", figure)
        ],
        notes=notes,
    )


def _gains(results: Results, method: Key, baseline: Key) -> list[float]:
    pairs = zip(values(results, method), values(results, baseline), strict=True)
    return [better - worse for better, worse in pairs]
