"""What the transcriptions and the tables share."""

from collections.abc import Iterable, Sequence

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in the type of the logits."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def squared_distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Between all rows of two matrices."""
    return ((rows[:, None] - others[None]) ** 2).sum(axis=-1)


def number(value: float, digits: int = 3) -> str:
    """Rounded; what is 0 but for rounding is 0."""
    rounded = f"{value:.{digits}f}"
    return rounded.removeprefix("-") if rounded.strip("-0.") == "" else rounded


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    lines.insert(1, "|" + "---|" * len(header))
    return "\n".join(lines)
