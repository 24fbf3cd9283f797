"""The last words of a run: its predictions one by one, and what its accuracy compares with."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jtl.data.examples import Examples
from jtl.runs import conclude, page
from jtl.training.evaluate import Predictions

CLASSES = ("Smileys & Emotion", "cat, dog")
NAMES = np.array(["a,b.png", 'quoted ".png', "line\nbreak.png"])
ODDS = np.array([[0.875, 0.125], [0.25, 0.75], [0.5, 0.5]])


def examples(labels: list[int] | None) -> Examples:
    inputs = np.zeros((3, 2), np.float32)
    given = None if labels is None else np.array(labels, np.int32)
    return Examples("some", inputs, given, () if labels is None else CLASSES, NAMES, NAMES)


def ended(folder: Path = Path(), *, target: Examples | None = None, **changes: Any) -> Any:
    """A run that has come to its end, as far as its last words need it."""
    sets = SimpleNamespace(
        source_train=examples([0, 1, 1]),
        source_test=examples([0, 0, 1]),
        target_train=target,
        target_test=target,
    )
    settings = {"method": "dann", "oracle": False, "weights": None} | changes
    return SimpleNamespace(
        folder=folder,
        stored=sets,
        domains=sets,
        oracle=settings["oracle"],
        net=SimpleNamespace(backbone=SimpleNamespace(weights=settings["weights"])),
        config=SimpleNamespace(
            method=SimpleNamespace(name=settings["method"]), keep=SimpleNamespace(model="latest")
        ),
    )


def test_every_test_example_has_a_prediction_with_its_label_where_that_is_known(
    tmp_path: Path,
) -> None:
    said = Predictions(np.zeros((3, 2)), ODDS)
    run = ended(tmp_path, target=examples(None))
    conclude.write_predictions(run, {"source_test": said, "target_test": said})
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["name", "domain", "predicted", "confidence", "label"]
    first, second = CLASSES
    told = [(first, "0.875000"), (second, "0.750000"), (first, "0.500000")]
    labels = [first, first, second]
    assert rows == [
        [name, domain, *prediction, label]
        for domain, known in (("source", labels), ("target", ["", "", ""]))
        for name, prediction, label in zip(NAMES.tolist(), told, known, strict=True)
    ]


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (ended(method="supervised"), "No target was used, and no pretrained weights."),
        (ended(method="supervised", weights=({}, {})), "a run with a random: backbone, all of it"),
        (ended(target=examples(None)), "no score; predictions.csv holds what they were taken for"),
        (ended(target=examples([0, 1, 1]), oracle=True), "an oracle, and no result of adaptation"),
        (ended(target=examples([0, 1, 1]), method="supervised"), "an adapted model has to beat"),
        (ended(target=examples([0, 1, 1])), "the same config with method.name=supervised"),
    ],
)
def test_a_report_says_what_its_accuracy_can_be_compared_with(run: Any, says: str) -> None:
    assert says in page.remark(run)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (ended(target=examples(None)), "Training saw the target's examples without their labels"),
        (ended(target=examples(None), method="supervised"), "Training saw none of the target;"),
        (ended(target=examples([0, 1, 1]), oracle=True), "it was trained on labels of the target"),
        (ended(), "The model is that of the last step"),
    ],
)
def test_a_report_says_who_saw_what(run: Any, says: str) -> None:
    said = page.protocol(run, 1)
    assert any(says in line for line in said)
    assert len(said) == 2 + (run.domains.target_train is not None)
