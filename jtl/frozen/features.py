"""The frozen part of a model, run once.

Blocks below the lowest trainable one always give the same output for the same input, so their
outputs are computed once and training starts from them.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Int

from jtl import partition
from jtl.data.examples import Examples, View, fingerprints
from jtl.devices import sharding
from jtl.devices.inference import streamed
from jtl.errors import UserError
from jtl.frozen import cache
from jtl.frozen.program import Program
from jtl.frozen.store import Rows, Store
from jtl.models.chain import Blocks
from jtl.records.log import Progress
from jtl.types import Params, Stats

FORMAT = "1"
"""Of what is kept on disk: another one makes all of it be computed again."""
BATCH, PIECE = 64, 2048
"""Examples in a batch, on each device; examples after which it is seen what others have written."""
QUIET_SECONDS = 2.0
"""Before there is a progress line."""


def frozen_blocks(blocks: Blocks, params: Params, stages: Sequence[partition.Rules]) -> int:
    """How many blocks at the start no stage of training changes.

    Args:
      blocks: of the classifier, the head last. The head is never counted.
      params: of the classifier and of the method's networks; shapes suffice.
      stages: the partition rules of every stage.
    """
    trained = set()
    for rules in stages:
        labels = partition.label(params, rules)
        trained |= {path for path, name in partition.walk(labels) if name != partition.FREEZE}
    count = 0
    for path, _ in blocks[:-1]:
        if any(name == path or name.startswith(path + "/") for name in trained):
            break
        count += 1
    return count


def below(tree: Params, blocks: Blocks) -> Params:
    """The part of a tree that belongs to these blocks."""
    paths = [path for path, _ in blocks]
    inside = partition.map_paths(
        lambda name, leaf: any(name.startswith(path + "/") for path in paths), tree
    )
    return partition.split(tree, inside)[0]


class Prefix:
    """The frozen blocks with their parameters, compiled; calls give stored activations.

    An example is run once however often it is asked for, by later runs too and whichever way they
    split their data. What it gives is kept (:mod:`jtl.frozen.store`) under all that it depends
    on: the compiled program, which holds the blocks, their precision and what they do to pixels;
    the weights; and the content of the example.

    Args:
      name: of the backbone.
      blocks: the frozen ones.
      params, stats: their parameters and statistics.
      on_disk: whether other processes may find it.
      devices: how many of this process's run it; 0 is all.

    Attributes:
      on_disk: the same, but for blocks without parameters, which are as soon run as read. (Shards
        hold float32; other outputs stay in memory.)
      new: how many examples had to be run.
    """

    _stores: ClassVar[dict[tuple[str, Path | None], Store]] = {}

    def __init__(
        self,
        name: str,
        blocks: Blocks,
        params: Params,
        stats: Stats,
        *,
        on_disk: bool = False,
        devices: int = 0,
    ) -> None:
        self._name, self._blocks, self._weights = name, blocks, (params, stats)
        self._devices = devices
        self._program = Program.of(blocks)
        self._run = self._program.run
        self.on_disk = on_disk and bool(jax.tree.leaves(self._weights)) and cache.limit() > 0
        self._content = _hash(params), _hash(stats)
        self.new = 0

    def __call__(
        self,
        examples: Examples,
        *,
        in_memory: bool = True,
        wait: Callable[[], object] | None = None,
    ) -> Examples:
        """The examples with the prefix's outputs in place of their inputs.

        Args:
          examples: of one set.
          in_memory: whether the outputs are read from disk at once.
          wait: returns when all processes of a job have called it. Each then runs its part of the
            examples before, and after it what the others have not written to a folder of both.

        Raises:
          UserError: the outputs are to stay on disk, and it takes no more.
        """
        if not self._blocks:
            return examples
        inputs, padding, names = examples.inputs, examples.padding, examples.fingerprints
        store, names = self._stored(inputs, padding, names, in_memory=in_memory, wait=wait)
        store.flush()
        if in_memory:
            return replace(examples, inputs=store.take(names), padding=None)
        _require_disk(store)
        return replace(examples, inputs=Rows(store, names), padding=None)

    def rows(self, inputs: np.ndarray, padding: int | None) -> np.ndarray:
        """What the blocks give for inputs that come a few at a time; call :meth:`flush` after."""
        store, names = self._stored(inputs, padding, fingerprints(inputs, padding), shown=False)
        return store.take(names)

    def flush(self) -> None:
        """Writes what :meth:`rows` found."""
        for store in self._stores.values():
            store.flush()

    def bytes_of_one(self, examples: Examples) -> int:
        """How much memory the output for one example takes."""
        first = self._shape_of_one(examples.inputs)
        return math.prod(first.shape) * first.dtype.itemsize

    def _stored(
        self,
        inputs: Any,
        padding: int | None,
        names: list[str],
        *,
        in_memory: bool = True,
        shown: bool = True,
        wait: Callable[[], object] | None = None,
    ) -> tuple[Store, list[str]]:
        """A store that holds all outputs, and what they are called there."""
        pooled = self._pools(inputs)
        if padding is not None and not pooled:
            length = inputs.shape[1]
            names = [sha256(f"{name} of {length}".encode()).hexdigest() for name in names]
        store = self._store(inputs, text=padding is not None)
        new = store.missing(names)
        self.new += len(new)
        # Each process of a job begins elsewhere, and finds what the others have written by then; so
        # do commands that were started at once, the workers of a study say.
        if jax.process_count() == 1:
            at = PIECE * random.randrange(max(1, -(-len(new) // PIECE)))
            new = new[at:] + new[:at]
        cuts = [len(new) * (jax.process_index() + k) // jax.process_count() for k in (0, 1)]
        line = _Shown(len(new))
        for part in (new[slice(*cuts)], new[cuts[1] :] + new[: cuts[0]]):
            if wait:  # until all have looked, then until all have written
                store.flush()
                wait()
            for start in range(0, len(part), PIECE):
                whole = part[start : start + PIECE]
                piece = [whole[place] for place in store.missing([names[index] for index in whole])]
                if shown:  # who runs a few at a time has a line for all
                    line.done(len(whole) - len(piece))
                for places, outputs in self._outputs(inputs, piece, padding if pooled else None):
                    store.add([names[piece[place]] for place in places], outputs)
                    if not in_memory:
                        _require_disk(store)
                    if shown:
                        line.done(len(places))
        line.close()
        return store, names

    def _outputs(
        self, inputs: Any, chosen: list[int], padding: int | None
    ) -> Iterator[tuple[Int[np.ndarray, " some"], np.ndarray]]:
        """Places in ``chosen`` and what the blocks give there, a batch at a time, on all devices.

        On one device batches have always the same shape, so that the last bits of an output do not
        depend on which others were asked for with it.
        """
        if not chosen:
            return iter(())
        held = isinstance(inputs, np.ndarray)
        taken = inputs[chosen] if held else View(inputs, np.array(chosen))
        devices = sharding.own(sharding.mesh(self._devices))
        weights = jax.device_put(self._weights, sharding.replicated(devices))
        parts = sharding.split(devices)
        return streamed(
            lambda rows: self._run(weights, jax.device_put(rows, parts)),
            taken,
            batch_size=BATCH,
            padding=padding,
            devices=devices.size,
        )

    def _store(self, inputs: Any, *, text: bool) -> Store:
        one = np.asarray(inputs[0])[None]
        program = self._program.text(self._weights, one[:, :1] if text else one)
        parts = FORMAT, jax.default_backend(), self._name, *self._content, program
        key = sha256("\0".join(parts).encode()).hexdigest()
        given = self._shape_of_one(inputs)
        shared = self.on_disk and given.dtype == np.float32
        folder = cache.place() / key[: cache.NAME_LENGTH] if shared else None
        if (key, folder) not in self._stores:
            about = {
                "backbone": self._name,
                "blocks": [path for path, _ in self._blocks],
                "shape": given.shape[1:],
                "key": key,
            }
            self._stores[key, folder] = Store(folder, about)
        return self._stores[key, folder]

    def _pools(self, inputs: Any) -> bool:
        """Whether outputs for texts do not depend on how far they are padded.

        Blocks below the pooling of tokens give more for longer ones.
        """
        return len(self._shape_of_one(inputs).shape) == 2

    def _shape_of_one(self, inputs: Any) -> jax.ShapeDtypeStruct:
        return jax.eval_shape(self._run, self._weights, np.asarray(inputs[0])[None])


def _require_disk(store: Store) -> None:
    if not store.on_disk:
        raise UserError(
            f"{cache.place()}: takes no more, and what the frozen blocks give does not fit in "
            f"memory; let {cache.PLACE} name a folder on a disk with room, or set cache=False"
        )


class _Shown:
    """A progress line over examples, once there has been something to wait for."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._begun = total, 0, time.monotonic()
        self._line: Progress | None = None

    def done(self, count: int) -> None:
        self._done += count
        if self._line is None and time.monotonic() - self._begun > QUIET_SECONDS:
            self._line = Progress(self._total, start=self._done, unit="example")
        if self._line:
            self._line.update(self._done, {})

    def close(self) -> None:
        if self._line:
            self._line.close()


def _hash(tree: Params) -> str:
    digest = sha256()
    for path, leaf in partition.walk(tree):
        value = np.asarray(leaf)
        digest.update(f"{path} {value.dtype} {value.shape}".encode() + value.tobytes())
    return digest.hexdigest()
