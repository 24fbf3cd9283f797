"""What was trained, in use: the model of a finished run, and the features of any backbone."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from jtl.data import inputs as asked
from jtl.data.inputs import CHUNK, Chunk, Item, Taken
from jtl.devices.inference import in_batches
from jtl.errors import UserError
from jtl.frozen.features import Prefix
from jtl.models import saved
from jtl.models.backbone import Backbone
from jtl.models.chain import Blocks, classifier, prefixed
from jtl.training.network import Start
from jtl.types import Array, Params, Stats, Tokenization

Weights = tuple[Params, Stats]
Function = Callable[[Weights, Array], Any]
"""``function(weights, inputs) -> outputs``, pure."""


class Predicted(NamedTuple):
    """What a model says of some inputs.

    Attributes:
      labels: the name of each one's most probable class.
      probabilities: of the classes, in their order.
      features: the input of the head.
      notes: what was done to inputs before the model saw them: texts that were cut.
    """

    labels: list[str]
    probabilities: Float[np.ndarray, "examples classes"]
    features: Float[np.ndarray, "examples features"]
    notes: tuple[str, ...]


class Runner:
    """A function of inputs over as many of them as there are.

    Args:
      run: what is said of a batch of them.
      taken: what it takes.
      end: called when all have been run.
    """

    def __init__(
        self,
        run: Callable[[np.ndarray], Any],
        taken: Taken,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        self.taken = taken
        self._run, self._end = run, end

    def __call__(self, items: Sequence[Item]) -> Iterator[tuple[Chunk, Any]]:
        """Reads and runs the inputs, some at a time.

        Yields:
          What was read, and what the function says of its rows; None of no rows.
        """
        wanted = self.taken.wanted
        padding = wanted.padding if isinstance(wanted, Tokenization) else None
        for chunk in asked.chunks(items, self.taken):
            if chunk.rows is None:
                yield chunk, None
                continue
            count, rows = len(chunk.rows), chunk.rows
            if padding is None:
                # Brought to the length of a full chunk, so that one shape is compiled.
                rows = rows[np.arange(min(CHUNK, len(items))) % count]
            outputs = in_batches(self._run, rows, batch_size=CHUNK, padding=padding)
            yield chunk, jax.tree.map(lambda leaf, n=count: leaf[:n], outputs)
        self._end()


class Trained:
    """The model of a finished run.

    Attributes:
      classes: their names, in the order of the probabilities.
      whole: its blocks and weights.
      runner: gives (probabilities, features).
    """

    def __init__(self, whole: saved.Whole) -> None:
        self.classes = whole.classes
        self.whole = whole
        taken = Taken(whole.backbone.wanted, whole.backbone.width, **whole.columns)
        run = partial(jax.jit(outputs_of(whole.blocks)), jax.device_put(whole.weights))
        self.runner = Runner(run, taken)

    def predict(self, inputs: Any) -> Predicted:
        """What the model says of inputs, which are brought to what it was trained on.

        Args:
          inputs: images as uint8 [examples, height, width, channels], or a sequence of images, each
            a path, an image of Pillow's or such an array; or, where the model was trained on
            vectors, numbers [examples, features], or on texts, strings. A path may be that of a
            folder or file with many; one of texts is a ``pathlib.Path``.

        Raises:
          UserError: there is no input, or one that cannot be read or is of another kind.
        """
        items, parts, notes = asked.given(inputs, self.runner.taken), [], ()
        for chunk, outputs in self.runner(items):
            if chunk.unread:
                raise UserError(chunk.unread[0])
            parts.append(outputs)
            notes += chunk.notes
        if not parts:
            raise UserError("inputs: there is none; give one or more")
        probabilities, features = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        labels = [self.classes[index] for index in probabilities.argmax(axis=1)]
        return Predicted(labels, probabilities, features, notes)


def load(place: str | os.PathLike[str]) -> Trained:
    """The model of a finished run, ready to predict.

    Args:
      place: the run's folder, or the ``model.safetensors`` in it, of which nothing else is read.

    Raises:
      UserError: the run is not finished, or its file is damaged or says too little.
    """
    return Trained(saved.whole(Path(place)))


def embedder(found: Backbone, *, text: str, on_disk: bool) -> Runner:
    """Gives (features,) of a backbone; one that starts at random is drawn with seed 0.

    Args:
      found: the backbone.
      text: the column of a table's texts.
      on_disk: whether features are kept there, and are not computed where they have been.
    """
    blocks = prefixed("backbone", found.blocks())
    prefix = Prefix(found.name, blocks, *Start(found, blocks)(0), on_disk=on_disk)
    padding = found.wanted.padding if isinstance(found.wanted, Tokenization) else None
    taken = Taken(found.wanted, found.width, text)
    return Runner(lambda rows: (prefix.rows(rows, padding),), taken, prefix.flush)


def outputs_of(blocks: Blocks) -> Function:
    """The function of a classifier that gives probabilities and features."""
    model = classifier(blocks)

    def outputs(weights: Weights, inputs: Array) -> tuple[jax.Array, jax.Array]:
        found, _ = model.apply(*weights, inputs, train=False, rng=None)
        return jax.nn.softmax(found.logits), found.features

    return outputs
