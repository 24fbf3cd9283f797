"""The methods of fine-tuning, each against its paper's formula in NumPy."""

import dataclasses
from typing import Any

import fixed
import numpy as np
import pytest
from fixed import SOURCE, TASK, close, draw, float64
from test_registered import build

from jtl.errors import UserError
from jtl.types import Method, Outputs, Params

START: Params = {
    "backbone": {"stage1": {"kernel": draw(2, 3), "bias": draw(3)}},
    "bottleneck": {"kernel": draw(3, 4)},
    "head": {"kernel": draw(4, 3), "bias": draw(3)},
}
PARAMS: Params = {
    "backbone": {"stage1": {"kernel": draw(2, 3), "bias": draw(3)}},
    "bottleneck": {"kernel": draw(3, 4)},
    "head": {"kernel": draw(4, 3), "bias": draw(3)},
}


def value(method: Method, params: Params = PARAMS, source: Any = SOURCE, **settings: Any) -> Any:
    """What a method minimises on the source alone, and its terms."""
    (phase,) = method.phases
    assert phase.reads == ("source",)
    scope = dataclasses.replace(fixed.scope(method, **settings), params=params)
    no_target: Any = None
    return phase.objective(source, no_target, scope)


def squares(*leaves: Any) -> float:
    return sum(float((float64(leaf) ** 2).sum()) for leaf in leaves)


def remembered(method: Method) -> Params:
    return method.remember(START, fixed.jax.random.key(0))


def test_l2_sp_draws_the_backbone_to_its_start_and_the_rest_to_0() -> None:
    method = build("l2_sp")
    total, terms = value(method, memory=remembered(method))
    start, now = START["backbone"]["stage1"], PARAMS["backbone"]["stage1"]
    kept = squares(now["kernel"] - start["kernel"], now["bias"] - start["bias"])
    new = squares(PARAMS["bottleneck"]["kernel"], *PARAMS["head"].values())
    close(terms["task"], TASK)
    close(total, TASK + 0.1 / 2 * kept + 0.01 / 2 * new)


IMAGES: dict[str, Any] = {
    "backbone/stage1": draw(8, 3, 3, 5),
    "backbone/dense": draw(8, 6),
    "bottleneck": draw(8, 4),
}
OLD_IMAGES: dict[str, Any] = {name: value + draw(*value.shape) for name, value in IMAGES.items()}


def test_delta_is_the_mean_squared_distance_of_each_channel_over_positions() -> None:
    method = build("delta")
    seen = []

    def forward(inputs: Any, params: Any) -> Outputs:
        seen.append((inputs, params))
        return Outputs(SOURCE.features, SOURCE.logits, OLD_IMAGES)

    source = SOURCE._replace(layers=IMAGES)
    total, terms = value(method, source=source, memory=remembered(method), forward=forward)
    moved = np.zeros(8)
    for name, positions in (("backbone/stage1", 9), ("backbone/dense", 1)):
        gap = float64(IMAGES[name]) - float64(OLD_IMAGES[name])
        moved += (gap**2).reshape(8, -1).sum(axis=1) / positions
    new = squares(PARAMS["bottleneck"]["kernel"], *PARAMS["head"].values()) / 2
    close(terms["moved"], moved.mean())
    close(total, TASK + 0.32 * moved.mean() + 0.01 * new)
    ((inputs, params),) = seen
    assert inputs is SOURCE.inputs and params["backbone"] is START["backbone"]


def test_delta_without_a_trained_block_of_the_backbone_says_so() -> None:
    method = build("delta")
    outputs = Outputs(SOURCE.features, SOURCE.logits, {"bottleneck": draw(8, 4)})
    with pytest.raises(UserError, match=r"delta compares the backbone's blocks, and none is train"):
        value(method, memory=remembered(method), forward=lambda *_: outputs)


@pytest.mark.parametrize("k", [1, 2])
def test_bss_adds_the_smallest_squared_singular_values(k: int) -> None:
    total, terms = value(build("bss", k=k), strength=0.5)
    singular = np.linalg.svd(float64(SOURCE.features), compute_uv=False)
    close(terms["shrinkage"], (singular[-k:] ** 2).sum())
    close(total, TASK + 0.5 * (singular[-k:] ** 2).sum())
