"""The choice of hyper-parameters: among finished runs, by a named validator."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jtl.errors import UserError, nearest
from jtl.records.workdir import TARGET_PROBABILITIES
from jtl.validators import POOL_VALIDATORS, choose

Summary = Mapping[str, Any]
"""What a run found, as in its summary.json, with its folder as "folder"."""


def select(runs: Sequence[Summary], validator: str) -> Summary:
    """The run that the validator takes for the best, the last of equals.

    Args:
      runs: the candidates, which differ in hyper-parameters.
      validator: the name of a score, or of one that compares candidates with each other.

    Raises:
      UserError: no run; no such validator, or not one of every run.
    """
    if not runs:
        raise UserError(f"there is no run for {validator} to choose among")
    # One that compares candidates has nothing to say of a single one.
    return runs[choose(scores(runs, validator))] if len(runs) > 1 else runs[0]


def scores(runs: Sequence[Summary], validator: str) -> list[float]:
    """The score of each run; higher is better.

    Raises:
      UserError: no such validator, or not one of every run.
    """
    if validator in POOL_VALIDATORS:
        read = (np.load(Path(run["folder"]) / TARGET_PROBABILITIES) for run in runs)
        return POOL_VALIDATORS[validator]([{"target_probabilities": each} for each in read])
    for run in runs:
        if validator not in run["validators"]:
            known = [*run["validators"], *POOL_VALIDATORS]
            raise UserError(
                f"{run['folder']} has no score {validator!r}; {nearest(validator, known)}"
            )
    return [run["validators"][validator] for run in runs]
