"""Hyper-parameters are chosen among finished runs by what a validator has written of them."""

from pathlib import Path

import numpy as np
import pytest

from jtl.errors import UserError
from jtl.records.workdir import TARGET_PROBABILITIES
from jtl.studies.selection import scores, select
from jtl.validators import POOL_VALIDATORS

SURE, UNSURE = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[0.4, 0.6], [0.6, 0.4]])


@pytest.fixture
def runs(tmp_path: Path) -> list[dict]:
    found = []
    for name, probabilities, entropy in (("a", SURE, -0.3), ("b", SURE, -0.3), ("c", UNSURE, -0.7)):
        folder = tmp_path / name
        folder.mkdir()
        np.save(folder / TARGET_PROBABILITIES, probabilities)
        found.append({"folder": str(folder), "validators": {"entropy": entropy}})
    return found


def test_the_run_with_the_best_score_is_selected_the_last_of_equals(runs: list[dict]) -> None:
    assert select(runs, "entropy") is runs[1]
    assert select(runs[::-1], "entropy") is runs[0]


def test_candidates_are_compared_with_each_other(runs: list[dict]) -> None:
    """EnsV: two of three say the same, and the third the opposite."""
    arrays = [{"target_probabilities": each} for each in (SURE, SURE, UNSURE)]
    assert scores(runs, "ensv") == POOL_VALIDATORS["ensv"](arrays) == [1.0, 1.0, 0.0]
    assert select(runs[1:] + runs[:1], "ensv") is runs[0]
    assert select(runs[2:], "ensv") is runs[2]


def test_what_cannot_be_chosen_is_said(runs: list[dict]) -> None:
    with pytest.raises(UserError, match="no run for entropy"):
        select([], "entropy")
    with pytest.raises(UserError, match=r"c has no score 'entrpy'; did you mean entropy"):
        scores(runs[2:], "entrpy")
