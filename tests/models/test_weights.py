"""Strict import: everything fits, or the message names all that does not."""

import jax
import numpy as np
import pytest

from jtl.errors import UserError
from jtl.models.weights import Rule, dense, import_weights, kernel

PARAMS = {
    "conv": {"kernel": jax.ShapeDtypeStruct((3, 2, 4, 5), np.float32)},
    "dense": {"kernel": jax.ShapeDtypeStruct((5, 6), np.float32)},
}
STATS = {"norm": {"mean": jax.ShapeDtypeStruct((5,), np.float32)}}
TABLE = (
    Rule(r"conv\.weight", "conv/kernel", kernel),
    Rule(r"fc\.weight", "dense/kernel", dense),
    Rule(r"(\w+)\.running_mean", r"\1/mean"),
    Rule(r".*\.num_batches_tracked", None),
)


def _tensors() -> dict[str, np.ndarray]:
    return {
        "conv.weight": np.arange(120, dtype=np.float32).reshape(5, 4, 3, 2),
        "fc.weight": np.arange(30, dtype=np.float64).reshape(6, 5, 1, 1),
        "norm.running_mean": np.ones(5, np.float32),
        "norm.num_batches_tracked": np.array(7),
    }


def test_every_tensor_lands_in_its_place_and_layout() -> None:
    tensors = _tensors()
    params, stats = import_weights(TABLE, tensors, PARAMS, STATS)
    assert params["conv"]["kernel"][2, 1, 3, 4] == tensors["conv.weight"][4, 3, 2, 1]
    assert params["dense"]["kernel"][4, 3] == tensors["fc.weight"][3, 4, 0, 0]
    assert params["dense"]["kernel"].dtype == np.float32
    np.testing.assert_array_equal(stats["norm"]["mean"], np.ones(5))


def test_everything_that_does_not_fit_is_reported_together() -> None:
    tensors = _tensors()
    del tensors["norm.running_mean"]
    tensors["fc.weight"] = np.zeros((7, 5))
    tensors["conv.weight"] = np.zeros(3)
    tensors["extra.weight"] = np.zeros(3)
    tensors["other.running_mean"] = np.zeros(3)
    with pytest.raises(UserError) as caught:
        import_weights(TABLE, tensors, PARAMS, STATS)
    message = str(caught.value)
    for part in (
        "norm/mean is missing",
        "fc.weight has shape (7, 5), which does not become (5, 6)",
        "conv.weight has shape (3,), which does not become (3, 2, 4, 5)",
        "extra.weight is not used",
        "other.running_mean is not used (the model has no other/mean)",
    ):
        assert part in message
    assert message.count(";") == 4
    assert "\n" not in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    tensors = _tensors()
    tensors["conv.weight"][0, 0, 0, 0] = value
    with pytest.raises(UserError, match=r"conv\.weight has values that are not finite"):
        import_weights(TABLE, tensors, PARAMS, STATS)


def test_two_values_for_one_leaf_are_refused() -> None:
    table = (*TABLE, Rule(r"also\.weight", "conv/kernel", kernel))
    tensors = _tensors() | {"also.weight": np.zeros((5, 4, 3, 2), np.float32)}
    with pytest.raises(UserError, match=r"also\.weight is a second value of conv/kernel"):
        import_weights(table, tensors, PARAMS, STATS)
