"""Who sees what: training and test parts of two domains, disjoint by identity.

Identities, not examples, are split, and jointly over both domains: what is test in one is test in
the other. Identities that both domains hold and that are not test are divided between source and
target training, two to one, so that no thing is seen labelled in one style and unlabelled in the
other. A quarter for testing thus leaves half for the source and a quarter for the target.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jtl.data.examples import Examples
from jtl.errors import UserError

SOURCE_SHARE = 2 / 3
"""Of the training identities that both domains hold, the part that the source gets."""


@dataclass(frozen=True)
class Domains:
    """The parts of one run's data.

    Attributes:
      source_train: labelled.
      source_test: labelled.
      target_train: never labelled; None where a run has no target.
      target_test: labelled where the target is; for reporting alone.
      target_oracle: the examples of ``target_train`` with their labels, for methods that are
        called oracles and nothing else; None where the target has no labels.
    """

    source_train: Examples
    source_test: Examples
    target_train: Examples | None = None
    target_test: Examples | None = None
    target_oracle: Examples | None = None


def split_domains(
    source: Examples, target: Examples | None, *, test_fraction: float = 0.25, seed: int = 0
) -> Domains:
    """Splits by identity, stratified by the source's classes as far as identities allow.

    A set that comes split keeps its split. The target's labels decide nothing. The result depends
    on the identities and the seed, not on the order of the examples.
    """
    if not 0 < test_fraction < 1:
        raise UserError(f"the test fraction is {test_fraction}; it must lie between 0 and 1")
    source.known_labels()
    if target is not None:
        target = check_same_classes(source, target)
    test = _test_identities(source, target, test_fraction, seed)
    if target is None:
        return Domains(*_parts(source, test, test, ("training", "test")))
    shared = sorted((set(source.identities) & set(target.identities)) - test)
    to_target = _draw(_strata(shared, source), 1 - SOURCE_SHARE, seed, "target")
    to_source = set(shared) - to_target
    source_train, source_test = _parts(source, test, test | to_target, ("training", "test"))
    oracle, target_test = _parts(target, test, test | to_source, ("training", "test"))
    return Domains(
        source_train=source_train,
        source_test=source_test,
        target_train=oracle.without_labels(),
        target_test=target_test,
        target_oracle=None if target.labels is None else oracle,
    )


def check_same_classes(source: Examples, target: Examples) -> Examples:
    """The target with its classes in the source's order; an error says which ones differ."""
    if target.labels is None or target.classes == source.classes:
        return target
    for one, other in ((source, target), (target, source)):
        missing = [name for name in one.classes if name not in other.classes]
        if missing:
            raise UserError(
                f"{other.name}: {one.name} has classes that it lacks ({', '.join(missing)}); "
                "source and target must have the same classes"
            )
    order = np.array([source.classes.index(name) for name in target.classes], np.int32)
    note = f"classes were put in the order of {source.name}"
    labels, notes = order[target.labels], (*target.notes, note)
    return replace(target, labels=labels, classes=source.classes, notes=notes)


def _test_identities(
    source: Examples, target: Examples | None, fraction: float, seed: int
) -> set[str]:
    """The identities to test on: those that came so, and a draw from those that came unsplit."""
    domains = [source] if target is None else [source, target]
    given_test = {name for domain in domains for name in _came(domain, "test")}
    given_train = {name for domain in domains for name in _came(domain, "train")}
    torn = given_test & given_train
    if torn:
        raise UserError(
            f"{' and '.join(domain.name for domain in domains)}: {min(torn)} is in a training "
            f"split and in a test split ({len(torn)} such identities); remove one of the two"
        )
    source_names = set(source.identities) - given_test - given_train
    target_names = set() if target is None else set(target.identities) - given_test - given_train
    groups = {
        "shared": source_names & target_names,
        "source": source_names - target_names,
        "target": target_names - source_names,
    }
    test = set(given_test)
    for tag, names in groups.items():
        strata = [sorted(names)] if tag == "target" else _strata(sorted(names), source)
        test |= _draw(strata, fraction, seed, f"test {tag}")
    return test


def _came(domain: Examples, split: str) -> Iterable[str]:
    return () if domain.split is None else domain.identities[domain.split == split].tolist()


def _strata(names: Sequence[str], source: Examples) -> list[list[str]]:
    """The identities by their class in the source (the lowest, where one has several)."""
    labels = source.known_labels()
    lowest: dict[str, int] = {}
    for name, label in zip(source.identities.tolist(), labels.tolist(), strict=True):
        lowest[name] = min(label, lowest.get(name, label))
    strata: list[list[str]] = [[] for _ in source.classes]
    for name in names:
        strata[lowest[name]].append(name)
    return strata


def _draw(strata: Sequence[list[str]], fraction: float, seed: int, tag: str) -> set[str]:
    """A random ``fraction`` of each stratum, and of all of them together, to within one.

    The rounding of one stratum is made good in the next. None is drawn empty.
    """
    sequence = np.random.SeedSequence([seed, *tag.encode()])
    generator = np.random.Generator(np.random.Philox(sequence))
    drawn: set[str] = set()
    seen = 0
    for names in strata:
        seen += len(names)
        wanted = round(seen * fraction) - len(drawn)
        count = max(0, min(wanted, len(names) - 1))
        drawn.update(names[index] for index in generator.permutation(len(names))[:count].tolist())
    return drawn


def _parts(
    domain: Examples, test: set[str], not_train: set[str], what: tuple[str, str]
) -> tuple[Examples, Examples]:
    """The training and the test examples of a domain."""
    identities = domain.identities.tolist()
    train = np.array([name not in not_train for name in identities])
    tested = np.array([name in test for name in identities])
    for part, chosen in zip(what, (train, tested), strict=True):
        if not chosen.any():
            raise UserError(
                f"{domain.name}: no {part} examples are left of its {len(domain)}; "
                "give it more examples or another test fraction"
            )
    return domain.take(np.flatnonzero(train)), domain.take(np.flatnonzero(tested))
