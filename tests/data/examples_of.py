"""Small sets of examples for the tests of the data layer."""

import numpy as np

from jtl.data.examples import Examples
from jtl.types import Preprocess

GREY = Preprocess(8, 1, (0.0,), (1.0,), "bilinear")
RGB = Preprocess(8, 3, (0.0,) * 3, (1.0,) * 3)


def vectors(
    identities: list[str],
    labels: list[int] | None,
    *,
    name: str = "toy",
    split: list[str] | None = None,
    classes: tuple[str, ...] = ("a", "b", "c"),
) -> Examples:
    """One vector an example, which holds the example's position."""
    count = len(identities)
    return Examples(
        name=name,
        inputs=np.arange(count, dtype=np.float32)[:, None],
        labels=None if labels is None else np.array(labels, np.int32),
        classes=() if labels is None else classes,
        names=np.array([f"{name}[{index}]" for index in range(count)], str),
        identities=np.array(identities, str),
        split=None if split is None else np.array(split, str),
    )
