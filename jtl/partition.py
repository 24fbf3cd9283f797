"""Which parameters train: ordered rules over parameter paths.

>>> params = {"backbone": {"stem": 1.0, "stage1": 2.0}, "head": 3.0}
>>> labels = label(params, (("backbone/stem", "freeze"), (".*", "train")))
>>> labels
{'backbone': {'stem': 'freeze', 'stage1': 'train'}, 'head': 'train'}
>>> split(params, keep(labels, lambda name: name != FREEZE))
({'backbone': {'stage1': 2.0}, 'head': 3.0}, {'backbone': {'stem': 1.0}})
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jtl.errors import UserError, nearest

Rules = Sequence[tuple[str, str]]
"""``(pattern, label)`` pairs; the first pattern that matches the whole path decides."""
Tree = dict[str, Any]

FREEZE = "freeze"
TRAIN = "train"


def walk(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields ``(path, leaf)`` in the dictionary's order."""
    for key, value in tree.items():
        path = f"{prefix}/{key}" if prefix else str(key)
        if isinstance(value, dict):
            yield from walk(value, path)
        else:
            yield path, value


def map_paths(function: Callable[[str, Any], Any], tree: Tree, prefix: str = "") -> Tree:
    """Applies ``function(path, leaf)`` to every leaf."""
    result: Tree = {}
    for key, value in tree.items():
        path = f"{prefix}/{key}" if prefix else str(key)
        inner = isinstance(value, dict)
        result[key] = map_paths(function, value, path) if inner else function(path, value)
    return result


def label(params: Tree, rules: Rules) -> Tree:
    """Labels every leaf by the first rule that matches its whole path.

    Raises:
      UserError: a leaf matches no rule, or a rule decides no leaf (it is misspelt, or an earlier
        rule took everything it would match).
    """
    used: set[int] = set()

    def decide(path: str, leaf: Any) -> str:
        del leaf
        for index, (pattern, name) in enumerate(rules):
            if re.fullmatch(pattern, path):
                used.add(index)
                return name
        raise UserError(
            f"partition: no rule matches the parameter {path}; end the rules with ('.*', 'freeze') "
            "or ('.*', 'train')"
        )

    labels = map_paths(decide, params)
    for index, (pattern, name) in enumerate(rules):
        if index not in used:
            tops = ", ".join(sorted({_top(path) for path, _ in walk(params)}))
            raise UserError(
                f"partition: the rule ({pattern!r}, {name!r}) decides no parameter; blocks: {tops}"
            )
    return labels


def deciding(rules: Rules, params: Tree) -> Rules:
    """The rules that decide at least one leaf, in order."""
    paths = [path for path, _ in walk(params)]
    deciders = {
        next((i for i, (pattern, _) in enumerate(rules) if re.fullmatch(pattern, path)), None)
        for path in paths
    }
    return tuple(rule for index, rule in enumerate(rules) if index in deciders)


def keep(labels: Tree, wanted: Callable[[str], bool]) -> Tree:
    """A mask: True where ``wanted(label)``."""
    return map_paths(lambda path, name: wanted(name), labels)


def split(tree: Tree, mask: Tree) -> tuple[Tree, Tree]:
    """Two trees without the other's leaves: where the mask is True, and where it is False."""
    chosen: Tree = {}
    others: Tree = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            inside, outside = split(value, mask[key])
            chosen |= {key: inside} if inside else {}
            others |= {key: outside} if outside else {}
        else:
            (chosen if mask[key] else others)[key] = value
    return chosen, others


def merge(first: Tree, second: Tree) -> Tree:
    """The inverse of :func:`split`: a tree with the leaves of both."""
    result = dict(first)
    for key, value in second.items():
        result[key] = merge(result[key], value) if key in result else value
    return result


def overwrite(tree: Tree, given: Tree) -> Tree:
    """``tree`` with the leaves of ``given`` in place of its own.

    Raises:
      UserError: ``given`` has a leaf that ``tree`` has not, or one of another shape.
    """
    values = dict(walk(given))
    shapes = {path: np.shape(leaf) for path, leaf in walk(tree)}
    for path, value in values.items():
        if path not in shapes:
            raise UserError(f"{path}: the model has no such parameter; {nearest(path, shapes)}")
        if np.shape(value) != shapes[path]:
            raise UserError(
                f"{path}: the shape of the given values is {np.shape(value)}, and that of the "
                f"model's {shapes[path]}; give values of this model"
            )
    return map_paths(lambda path, leaf: values.get(path, leaf), tree)


def training_modules(labels: Tree) -> Callable[[str], bool]:
    """A predicate over module paths: is the module in training mode?

    A module trains when one of its parameters does; a module without parameters (dropout) does as
    its parent does. A frozen batch norm therefore runs on its stored statistics, and a frozen block
    neither drops anything out nor changes.
    """
    paths = [(path, name != FREEZE) for path, name in walk(labels)]

    def training(module: str) -> bool:
        while module:
            inside = [trains for path, trains in paths if path.startswith(module + "/")]
            if inside:
                return any(inside)
            module = module.rpartition("/")[0]
        return any(trains for _, trains in paths)

    return training


def moving_norms(labels: Tree, stats: Tree) -> list[str]:
    """The paths of the batch norms that train, whose statistics move.

    Those of a module without parameters, such as the deviations of columns, never do.
    """
    owners = ({path.rpartition("/")[0] for path, _ in walk(tree)} for tree in (labels, stats))
    return sorted(filter(training_modules(labels), set.intersection(*owners)))


def _top(path: str) -> str:
    return "/".join(path.split("/")[:2]) if path.startswith("backbone/") else path.split("/")[0]
