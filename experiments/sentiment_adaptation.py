"""Does adaptation help a sentiment classifier from one domain of texts to another?

    ./launch.sh experiments/sentiment_adaptation.py

Source-only, DANN, CDAN, MCC and target-supervised (an oracle) on the twelve ordered pairs of four
domains, three seeds each.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
from ml_collections import ConfigDict

from jtl import metrics, plots
from jtl.configuration import like
from jtl.records.report import Picture
from jtl.studies.study import Findings, Results, Study, spread, values

METHODS = {
    "source-only": "supervised",
    "dann": "dann",
    "cdan": "cdan",
    "mcc": "mcc",
    "target-supervised": "target_supervised",
}
DISCRIMINATING, WIDTH = ("dann", "cdan"), 256
BASELINE, ORACLE = "source-only", "target-supervised"
DOMAINS = ("amazon", "film", "nyt", "tweets")
PAIRS = tuple(f"{source}-{target}" for source, target in permutations(DOMAINS, 2))
PROTOCOL = (
    "Each seed draws its own split of both domains: three quarters train, a quarter tests. The "
    "sentences of one review or editorial stay together. Half of each domain is positive.",
    "The sentence encoder stays as it is; a bottleneck and a head train.",
    "The target-supervised runs are oracles: they train on labels of the target's training "
    "examples, which no other run reads.",
    "The model of the last step is tested; nothing is chosen by a score.",
    f"Methods have their published strengths; discriminators are {WIDTH} wide, not 1024, for the "
    "time of it. Learning rate, weight decay and the number of steps are those of source-only, "
    "chosen by log loss on held-out texts of the source, over the four domains.",
    "The tests are over the twelve pairs, each the mean of its seeds: exact two-sided sign-flip "
    "tests, each read alone. Pairs share domains, so they are not independent.",
)


def study() -> Study:
    """A hundred and eighty runs."""
    return Study(
        question="Does adaptation help a sentiment classifier from one domain to another?",
        protocol=PROTOCOL,
        config=config,
        keys=[(method, pair) for pair in PAIRS for method in METHODS],
        seeds=range(3),
        conclude=conclude,
    )


def config(method: str, pair: str, seed: int) -> ConfigDict:
    """One run: its method, the source and the target, and its seed."""
    made = like(__file__, "../configs/sentiment_source_only.py", pair)
    made.method.name = METHODS[method]
    if method in DISCRIMINATING:
        made.method.width = WIDTH
    made.seed = made.data.split_seed = seed
    made.eval_every = made.checkpoint_every = made.steps
    return made


def conclude(results: Results) -> Findings:
    """A row a pair, a column a method; below them the means and gains."""
    by = {m: {pair: values(results, (m, pair)) for pair in PAIRS} for m in METHODS}
    rows = [[_name(pair), *(spread(by[m][pair]) for m in METHODS)] for pair in PAIRS]
    means = {m: np.array([np.mean(by[m][pair]) for pair in PAIRS]) for m in METHODS}
    rows.append(["mean", *(f"{100 * means[m].mean():.1f}" for m in METHODS)])
    gains = {m: metrics.paired_test(means[m], means[BASELINE]) for m in METHODS if m != BASELINE}
    rows.append(["gain", "", *(f"{100 * gain.difference:+.1f}" for gain in gains.values())])
    rows.append(["p", "", *(f"{gain.p_value:.2g}" for gain in gains.values())])
    adapting = [m for m in gains if m != ORACLE]
    said = ", ".join(
        f"{m} {100 * gains[m].difference:+.1f} points (p {gains[m].p_value:.2g})" for m in adapting
    )
    hurt = {
        m: [_name(p) for p in PAIRS if np.mean(by[m][p]) < np.mean(by[BASELINE][p])] for m in by
    }
    return Findings(
        answer=f"Over source-only, in the mean of twelve pairs: {said}.",
        columns=["target accuracy, %", *METHODS],
        rows=rows,
        figures=[_picture(by, source) for source in DOMAINS],
        notes=[f"{m} is below source-only from {', '.join(hurt[m])}." for m in adapting if hurt[m]],
    )


def _picture(by: Mapping[str, Mapping[str, Sequence[float]]], source: str) -> Picture:
    """The pairs from one source: twelve panels side by side cannot be read."""
    pairs = [pair for pair in PAIRS if pair.startswith(f"{source}-")]
    panels = {_name(pair): {m: by[m][pair] for m in METHODS} for pair in pairs}
    figure = plots.method_comparison(panels, baseline=BASELINE, oracles=(ORACLE,))
    caption = "Target accuracy: mean, deviation, every seed. The line is source-only."
    return f"From {source}", caption, figure


def _name(pair: str) -> str:
    return pair.replace("-", " to ")
