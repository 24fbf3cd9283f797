"""Oracles and cases of the penalties of fine-tuning."""

import numpy as np

from families.common import Case, Fixed, normal
from jtl import losses
from jtl.types import Array


def l2_sp(
    backbone: np.ndarray,
    head: np.ndarray,
    reference: np.ndarray,
    alpha: float = 0.3,
    beta: float = 0.7,
    at: Fixed = None,
) -> float:
    start = reference if at is None else at[2]
    kept = sum((w - w0) ** 2 for w, w0 in zip(backbone.flat, start.flat, strict=True))
    return alpha / 2 * kept + beta / 2 * sum(w**2 for w in head.flat)


def nested_l2_sp(backbone: Array, head: Array, reference: Array) -> Array:
    params = {"backbone": {"w": backbone}, "head": head}
    return losses.l2_sp(params, {"backbone": {"w": reference}}, alpha=0.3, beta=0.7)


CASES = {
    "l2_sp": Case(
        nested_l2_sp,
        l2_sp,
        (normal(2, 3), normal(4), normal(2, 3, seed=4)),
        ((np.zeros((2, 3)), np.zeros(4), np.zeros((2, 3))),),
        batch=False,
    ),
}
