"""Strict import of pretrained weights: everything fits, or nothing is taken.

A table of rules says which name in a file becomes which leaf of the model. Missing, unused,
mis-shaped and non-finite entries are reported together.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jtl.errors import UserError
from jtl.partition import map_paths, walk
from jtl.types import Params, Stats


def as_is(tensor: np.ndarray) -> np.ndarray:
    """Vectors: norm scales, biases and statistics."""
    return tensor


def kernel(tensor: np.ndarray) -> np.ndarray:
    """A convolution from PyTorch's [O, I, H, W] to [H, W, I, O]."""
    return tensor.transpose(2, 3, 1, 0)


def dense(tensor: np.ndarray) -> np.ndarray:
    """A matrix from PyTorch's [O, I] to [I, O]; also a 1x1 convolution [O, I, 1, 1]."""
    return tensor.reshape(tensor.shape[:2]).T


class Rule(NamedTuple):
    r"""Where the tensors go whose whole name matches a pattern.

    Attributes:
      pattern: a regular expression.
      path: of the leaf, with the pattern's groups as ``\1``, or a function of the match; None
        leaves the tensor out on purpose.
      layout: from the file's layout to the model's.
    """

    pattern: str
    path: str | Callable[[re.Match[str]], str] | None
    layout: Callable[[np.ndarray], np.ndarray] = as_is


def import_weights(
    table: Sequence[Rule], tensors: Mapping[str, np.ndarray], params: Params, stats: Stats
) -> tuple[Params, Stats]:
    """Puts a file's tensors into the shape of a model.

    Args:
      table: the first rule that matches a name decides.
      tensors: the file's contents by name.
      params: of the model; shapes and types suffice (``jax.eval_shape``).
      stats: the same.

    Returns:
      Trees like ``params`` and ``stats`` with the file's values as NumPy arrays.

    Raises:
      UserError: naming every tensor that is missing, unused, mis-shaped or not finite.
    """
    expected = dict(walk(params)) | dict(walk(stats))
    found: dict[str, np.ndarray] = {}
    problems: list[str] = []
    for name, tensor in tensors.items():
        rule, path = _destination(table, name)
        if rule is None:
            problems.append(f"{name} is not used")
        elif path is not None and path not in expected:
            problems.append(f"{name} is not used (the model has no {path})")
        elif path in found:
            problems.append(f"{name} is a second value of {path}")
        elif path is not None:
            wanted = expected[path]
            found[path], problem = _fitted(rule.layout, tensor, wanted.shape, wanted.dtype)
            problems += [f"{name} {problem}"] * bool(problem)
    problems += [f"{path} is missing" for path in expected if path not in found]
    if problems:
        raise UserError(f"the weights do not fit the model: {'; '.join(problems)}")
    return (
        map_paths(lambda path, leaf: found[path], params),
        map_paths(lambda path, leaf: found[path], stats),
    )


def _destination(table: Sequence[Rule], name: str) -> tuple[Rule | None, str | None]:
    for rule in table:
        match = re.fullmatch(rule.pattern, name)
        if match and rule.path is not None:
            path = match.expand(rule.path) if isinstance(rule.path, str) else rule.path(match)
            return rule, path
        if match:
            return rule, None
    return None, None


def _fitted(
    layout: Callable[[np.ndarray], np.ndarray],
    tensor: np.ndarray,
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> tuple[np.ndarray, str]:
    """The tensor in the model's layout and type, and what is wrong with it, if anything."""
    try:
        value = np.ascontiguousarray(layout(tensor), dtype)
    except ValueError:  # the layout's rearrangement needs another number of axes
        return tensor, f"has shape {tensor.shape}, which does not become {shape}"
    if value.shape != shape:
        return value, f"has shape {tensor.shape}, which does not become {shape}"
    return value, "" if np.isfinite(value).all() else "has values that are not finite"
