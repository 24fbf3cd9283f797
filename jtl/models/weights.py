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

Layout = Callable[[np.ndarray], np.ndarray]
"""From a file's layout of a tensor to the model's."""


def as_is(tensor: np.ndarray) -> np.ndarray:
    """Vectors: norm scales, biases and statistics."""
    return tensor


def kernel(tensor: np.ndarray) -> np.ndarray:
    """A convolution from PyTorch's [O, I, H, W] to [H, W, I, O]."""
    return tensor.transpose(2, 3, 1, 0)


def dense(tensor: np.ndarray) -> np.ndarray:
    """A matrix from PyTorch's [O, I] to [I, O]; also a 1x1 convolution [O, I, 1, 1]."""
    return tensor.reshape(tensor.shape[:2]).T


def of_patches(tensor: np.ndarray) -> np.ndarray:
    """A convolution whose windows do not overlap, as a matrix: [O, I, H, W] to [H * W * I, O]."""
    return kernel(tensor).reshape(-1, len(tensor))


def rows(tensor: np.ndarray) -> np.ndarray:
    """Tokens or positions without their leading axes of 1: [1, T, W] or [1, 1, W] to [T, W]."""
    return tensor.reshape(tensor.shape[-2:])


class Rule(NamedTuple):
    r"""Where the tensors go whose whole name matches a pattern.

    Attributes:
      pattern: a regular expression.
      path: of the leaf, with the pattern's groups as ``\1``, or ``\1+`` for a number of which one
        more is meant; or a function of the match. None leaves the tensor out on purpose.
      layout: from the file's layout to the model's.
      parts: what replaces ``*`` in the path, where the tensor holds several leaves of equal size
        one after the other.
    """

    pattern: str
    path: str | Callable[[re.Match[str]], str] | None
    layout: Layout = as_is
    parts: tuple[str, ...] = ()

    def places(self, match: re.Match[str]) -> list[str]:
        """The paths of the leaves that a matching tensor becomes."""
        if self.path is None:
            return []
        path = self.path(match) if callable(self.path) else _expanded(self.path, match)
        return [path.replace("*", part) for part in self.parts] or [path]


def _expanded(template: str, match: re.Match[str]) -> str:
    def group(reference: re.Match[str]) -> str:
        text = match[int(reference[1])]
        return str(int(text) + 1) if reference[2] else text

    return re.sub(r"\\(\d)(\+?)", group, template)


def linear(
    theirs: str, ours: str, layout: Layout = dense, parts: tuple[str, ...] = ()
) -> tuple[Rule, ...]:
    """The rules of a dense layer or convolution with a bias or without: a module of that name."""
    return (
        Rule(rf"{theirs}\.weight", f"{ours}/kernel", layout, parts),
        Rule(rf"{theirs}\.bias", f"{ours}/bias", as_is, parts),
    )


def norm(theirs: str, ours: str) -> tuple[Rule, ...]:
    """The rules of a layer norm or batch norm."""
    return (
        Rule(rf"{theirs}\.weight", f"{ours}/scale"),
        Rule(rf"{theirs}\.bias", f"{ours}/bias"),
        Rule(rf"{theirs}\.running_mean", f"{ours}/mean"),
        Rule(rf"{theirs}\.running_var", f"{ours}/var"),
        # A counter of batches that PyTorch keeps and nothing reads.
        Rule(rf"{theirs}\.num_batches_tracked", None),
    )


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
        rule, places = _destination(table, name)
        if rule is None:
            problems.append(f"{name} is not used")
            continue
        for path, part in zip(places, _split(tensor, len(places)), strict=True):
            if path not in expected:
                problems.append(f"{name} is not used (the model has no {path})")
            elif path in found:
                problems.append(f"{name} is a second value of {path}")
            else:
                wanted = expected[path]
                found[path], problem = _fitted(rule.layout, part, wanted.shape, wanted.dtype)
                problems += [f"{name} {problem}"] * bool(problem)
    problems += [f"{path} is missing" for path in expected if path not in found]
    if problems:
        raise UserError(f"the weights do not fit the model: {'; '.join(problems)}")
    return (
        map_paths(lambda path, leaf: found[path], params),
        map_paths(lambda path, leaf: found[path], stats),
    )


def _destination(table: Sequence[Rule], name: str) -> tuple[Rule | None, list[str]]:
    for rule in table:
        if match := re.fullmatch(rule.pattern, name):
            return rule, rule.places(match)
    return None, []


def _split(tensor: np.ndarray, count: int) -> list[np.ndarray]:
    """Equal parts of the first axis; what does not divide is left to be found mis-shaped."""
    if count < 2:
        return [tensor] * count
    size = -(-len(tensor) // count)
    return [tensor[n * size : (n + 1) * size] for n in range(count)]


def _fitted(
    layout: Layout,
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
