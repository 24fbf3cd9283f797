"""A named set of examples: what every loader returns and everything else reads."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt8

from jtl.errors import UserError


@runtime_checkable
class Lazy(Protocol):
    """Images, or what frozen blocks gave, too large for memory and read when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray: ...

    def stamp(self, index: int) -> str:
        """Tells a change of example ``index`` without decoding it: its name and size, say."""
        ...

    def fingerprint(self, index: int) -> str:
        """A hash of all that example ``index`` is decoded from."""
        ...


Inputs = (
    UInt8[np.ndarray, "examples height width channels"]
    | Float[np.ndarray, "examples features"]
    | Int[np.ndarray, "examples tokens"]
    | Lazy
)


@dataclass(frozen=True)
class View:
    """Some examples of a lazy set, in the given order."""

    base: Lazy
    indices: Int[np.ndarray, " examples"]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.base[int(self.indices[index])]

    def stamp(self, index: int) -> str:
        """As the base's."""
        return self.base.stamp(int(self.indices[index]))

    def fingerprint(self, index: int) -> str:
        """As the base's."""
        return self.base.fingerprint(int(self.indices[index]))


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs and what is known about them.

    Attributes:
      name: as the user named the set, for messages and the report.
      inputs: images, uint8 from 0 to 255, in the backbone's size and channels; or vectors, float32;
        or texts, as tokens in int32; or a lazy sequence.
      labels: positions in ``classes``, or None where nothing is labelled.
      classes: the classes' names; empty where nothing is labelled.
      names: what to call each example in a message or a picture: a file's path, say.
      identities: examples with the same identity show the same thing, and never stand on two
        sides of a split, not even in two domains.
      columns: where inputs are vectors out of a table, the names of its columns.
      padding: where inputs are texts, the token that fills up short ones; else None.
      split: "train" or "test" for each example where the set came split, else None.
      notes: what the loader did to the inputs, one sentence each, to be shown to the user.
    """

    name: str
    inputs: Inputs
    labels: Int[np.ndarray, " examples"] | None
    classes: tuple[str, ...]
    names: np.ndarray
    identities: np.ndarray
    columns: tuple[str, ...] = ()
    padding: int | None = None
    split: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        columns = {"names": self.names, "identities": self.identities}
        columns |= {"labels": self.labels, "split": self.split}
        for column, values in columns.items():
            if values is not None and len(values) != len(self.inputs):
                raise ValueError(f"{len(self.inputs)} inputs but {len(values)} {column}")

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, indices: Sequence[int] | Int[np.ndarray, " taken"]) -> "Examples":
        """The examples at ``indices``, in that order; an index may come more than once."""
        indices = np.asarray(indices, np.int64)
        inputs = self.inputs
        return replace(
            self,
            inputs=inputs[indices] if isinstance(inputs, np.ndarray) else View(inputs, indices),
            labels=None if self.labels is None else self.labels[indices],
            names=self.names[indices],
            identities=self.identities[indices],
            split=None if self.split is None else self.split[indices],
        )

    def shots(self, per_class: int, *, seed: int) -> "Examples":
        """``per_class`` random labelled examples of each class, in the order of the classes.

        The same seed gives nested sets: those of 5 per class contain those of 1.
        """
        labels = self.known_labels()
        generator = np.random.Generator(np.random.Philox(seed))
        chosen = []
        for index, name in enumerate(self.classes):
            members = generator.permutation(np.flatnonzero(labels == index))
            if len(members) < per_class:
                raise UserError(
                    f"{self.name}: {per_class} labelled examples per class were asked for, "
                    f"but class {name} has {len(members)}; ask for fewer"
                )
            chosen.append(members[:per_class])
        return self.take(np.concatenate(chosen))

    def known_labels(self) -> Int[np.ndarray, " examples"]:
        """The labels, or an error that names the set where there are none."""
        if self.labels is None:
            raise UserError(
                f"{self.name}: has no labels, and they are needed here; name a labelled set"
            )
        return self.labels

    def array(self) -> np.ndarray:
        """The inputs of a set that is in memory."""
        if not isinstance(self.inputs, np.ndarray):
            raise ValueError(f"{self.name} is decoded as it is read; it is not in memory")
        return self.inputs

    def without_labels(self) -> "Examples":
        """The same examples with no labels to read by mistake."""
        return replace(self, labels=None)

    @cached_property
    def fingerprints(self) -> list[str]:
        """A hash of each input; of texts, without their padding."""
        if isinstance(self.inputs, np.ndarray):
            return fingerprints(self.inputs, self.padding)
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self.inputs.fingerprint, range(len(self.inputs))))

    def sha256(self) -> str:
        """A hash of the content: inputs, labels, classes, names and split.

        Identities are left out, for a folder's hold its path on this machine. A lazy set is not
        decoded: the stamps of its images stand for them.
        """
        digest = hashlib.sha256()

        def add(text: str) -> None:
            digest.update(text.encode() + b"\0")

        if isinstance(self.inputs, np.ndarray):
            add(f"{self.inputs.dtype} {self.inputs.shape} {self._sha256_of_array}")
        else:
            for index in range(len(self.inputs)):
                add(self.inputs.stamp(index))
        add("unlabelled" if self.labels is None else "labelled")
        if self.labels is not None:
            digest.update(self.labels.astype("<i4").tobytes())
        for column in (self.classes, self.names, () if self.split is None else self.split):
            add(str(len(column)))
            for text in column:
                add(str(text))
        return digest.hexdigest()

    @cached_property
    def _sha256_of_array(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.array()).data).hexdigest()


def fingerprints(inputs: np.ndarray, padding: int | None = None) -> list[str]:
    """A hash of each row; of texts, whose padding is given, without it."""
    rows = list(inputs)
    if padding is not None:
        rows = [np.trim_zeros(row - padding, "b") for row in rows]
    return [hashlib.sha256(np.ascontiguousarray(row).data).hexdigest() for row in rows]
