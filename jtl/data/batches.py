"""Which examples make up a batch: a pure function of the seed and the step.

Everything that training has to remember of its data is the number of the step. Examples come in
epochs: each is a permutation of all of them, and batches run on over the ends of epochs, so that
no example is left out and a set smaller than a batch repeats.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

import jax
import numpy as np
from jaxtyping import Int

from jtl.data import images
from jtl.data.examples import Examples
from jtl.errors import UserError
from jtl.types import Labelled, Unlabelled

AHEAD = 2
"""Batches that a stream reads ahead."""


@lru_cache(maxsize=32)  # few-shot sets need several epochs for one batch
def _epoch(seed: int, stream: str, epoch: int, size: int) -> Int[np.ndarray, " size"]:
    sequence = np.random.SeedSequence([seed, epoch, *stream.encode()])
    return np.random.Generator(np.random.Philox(sequence)).permutation(size).astype(np.int32)


def batch_indices(
    seed: int, step: int, size: int, batch_size: int, stream: str
) -> Int[np.ndarray, " batch_size"]:
    """The examples of one step.

    Args:
      seed: of the run.
      step: from 0.
      size: how many examples there are.
      batch_size: how many make up the global batch; it may exceed ``size``.
      stream: "source" or "target": another name gives another, independent order.

    >>> batch_indices(0, 0, size=4, batch_size=6, stream="source").shape
    (6,)
    """
    return stretch_indices(seed, step, 1, size, batch_size, stream)[0]


def stretch_indices(
    seed: int, first_step: int, steps: int, size: int, batch_size: int, stream: str
) -> Int[np.ndarray, "steps batch_size"]:
    """The examples of ``steps`` steps in a row; row t is the batch of step ``first_step + t``."""
    if size < 1:
        raise ValueError(f"there are no examples to draw {stream} batches from")
    begin, end = first_step * batch_size, (first_step + steps) * batch_size
    first, last = begin // size, -(-end // size)
    if first == last:  # no steps
        return np.empty((steps, batch_size), np.int32)
    epochs = np.concatenate([_epoch(seed, stream, epoch, size) for epoch in range(first, last)])
    return epochs[begin - first * size : end - first * size].reshape(steps, batch_size)


def local_slice(
    indices: Int[np.ndarray, "*steps batch_size"], process: int, processes: int
) -> Int[np.ndarray, "*steps local"]:
    """The part of a global batch that one of several processes reads.

    The parts of all processes, one after another, are the global batch, as
    ``jax.make_array_from_process_local_data`` puts them together.
    """
    batch_size = indices.shape[-1]
    if batch_size % processes:
        raise UserError(
            f"batch_size {batch_size} cannot be shared by {processes} processes; "
            f"make it a multiple of {processes}"
        )
    local = batch_size // processes
    return indices[..., process * local : (process + 1) * local]


def fetch(examples: Examples, indices: Int[np.ndarray, " batch"]) -> Labelled | Unlabelled:
    """The examples at ``indices`` as a batch in this machine's memory."""
    if isinstance(examples.inputs, np.ndarray):
        inputs = examples.inputs[indices]
    else:
        inputs = images.stack(examples.inputs, indices.tolist())
    if examples.labels is None:
        return Unlabelled(inputs)
    return Labelled(inputs, examples.labels[indices])


def stream(
    examples: Examples,
    *,
    seed: int,
    first_step: int,
    steps: int,
    batch_size: int,
    name: str,
    process: int = 0,
    processes: int = 1,
    threads: int = 0,
) -> Iterator[Labelled | Unlabelled]:
    """The batches of ``steps`` steps from ``first_step``, decoded ahead of time by grain.

    The batch of a step is the one that :func:`batch_indices` names, whatever the number of threads
    and wherever the stream begins. Threads share each batch, so that few have to be read ahead: a
    stream holds :data:`AHEAD` batches besides the one that it has just given.

    Args:
      examples: of one set.
      seed: of the run.
      first_step: whose batch is given first.
      steps: how many batches there are.
      batch_size: of the global batch.
      name: "source" or "target".
      process: which part of each batch this process reads.
      processes: how many parts there are.
      threads: that decode; 0 is as many as :func:`jtl.data.images.threads` says.
    """
    import grain  # takes seconds to import

    threads = threads or images.threads()
    parts = max(1, min(threads, batch_size // processes))

    def part(position: int) -> Labelled | Unlabelled:
        step, number = divmod(position, parts)
        indices = batch_indices(seed, step, len(examples), batch_size, name)
        own = local_slice(indices, process, processes)
        return fetch(examples, np.array_split(own, parts)[number])

    pieces = grain.MapDataset.range(first_step * parts, (first_step + steps) * parts).map(part)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=AHEAD * parts)
    read = iter(pieces.to_iter_dataset(options))
    while batch := list(islice(read, parts)):
        yield jax.tree.map(lambda *rows: np.concatenate(rows), *batch)
