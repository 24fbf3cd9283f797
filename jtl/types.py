"""The vocabulary of jtl: what a model, a batch, a method and a training state are.

Everything else in the package is a function over these. Nothing here imports jtl.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, Int

Array = jax.Array | np.ndarray
Params = dict[str, Any]
"""A nested dictionary of arrays; a leaf's path is its keys joined by ``/``."""
Stats = dict[str, Any]
"""Batch-norm running statistics, in the same shape as :data:`Params`."""
Train = bool | Callable[[str], bool | float]
"""Which modules are in training mode: all, none, or a predicate over module paths. Of a batch norm
it may be a fraction: the probability with which a channel is normalised by its batch."""


class Apply(Protocol):
    """``apply(params, stats, inputs, *, train, rng) -> (outputs, stats)``, pure."""

    def __call__(
        self,
        params: Params,
        stats: Stats,
        inputs: Any,
        *,
        train: Train,
        rng: jax.Array | None,
    ) -> tuple[Any, Stats]:
        """Runs the model; returns its outputs and the new statistics."""
        ...


class Model(NamedTuple):
    """A pair of pure functions on plain dictionaries, whatever framework wrote them."""

    init: Callable[[jax.Array], tuple[Params, Stats]]
    """``init(key) -> (params, stats)``."""
    apply: Apply


@dataclass(frozen=True)
class Preprocess:
    """How a backbone wants its images.

    Attributes:
      size: side of the square input, in pixels.
      channels: 3 for RGB, 1 for grey.
      mean, std: per channel, on pixel values from 0 to 255.
      interpolation: "bicubic" or "bilinear".
      crop: the share of the shorter side that is kept, at the centre.
      squash: whether an image that is not square is squeezed, instead of cropped.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop: float = 1.0
    squash: bool = False


@dataclass(frozen=True)
class Tokenization:
    """How a backbone wants its texts.

    Attributes:
      tokenizer: the content of a ``tokenizer.json``.
      longest: the most tokens of a text; what is longer is cut.
      padding: the token that fills up shorter texts.
    """

    tokenizer: str = field(repr=False)
    longest: int
    padding: int


@dataclass(frozen=True)
class Sound:
    """How a backbone wants its sounds.

    Attributes:
      shape: of one: (samples,), or (frames, bands); 0 is any number.
      longest: the most samples or frames; 0 is any number.
    """

    shape: tuple[int, ...]
    longest: int = 0


Wanted = Preprocess | Tokenization | Sound
"""What a backbone asks of its inputs."""


class Outputs(NamedTuple):
    """What a classifier returns."""

    features: Float[Array, "examples features"]
    """The input of the head."""
    logits: Float[Array, "examples classes"]
    layers: dict[str, Array] = {}  # noqa: RUF012 -- never changed in place
    """What each block below the head returns, by its path; the last of them are the features."""


class Labelled(NamedTuple):
    """A batch with labels: always source (or the oracle's target)."""

    inputs: Array
    labels: Int[Array, " examples"]


class Unlabelled(NamedTuple):
    """A batch without labels. There is no field that could hold them."""

    inputs: Array


class Batch(NamedTuple):
    """What one step sees. ``target`` is None where a run has no target domain."""

    source: Labelled
    target: Unlabelled | None


class Source(NamedTuple):
    """The source part of a batch with the model's outputs on it."""

    inputs: Array
    labels: Int[Array, " examples"]
    features: Float[Array, "examples features"]
    logits: Float[Array, "examples classes"]
    layers: dict[str, Array]


class Target(NamedTuple):
    """The target part of a batch with the model's outputs on it. It has no labels."""

    inputs: Array
    features: Float[Array, "examples features"]
    logits: Float[Array, "examples classes"]
    layers: dict[str, Array]


Terms = dict[str, Float[Array, ""]]
"""The named parts of an objective, logged at every step."""
Hyperparameters = Mapping[str, Float[jax.Array, "..."]]
"""Scalars as arrays, so that a whole run can be vmapped over them; and what a method has measured
before training."""


@runtime_checkable
class Pretrained(Protocol):
    """What the backbone makes of the labelled training examples before it is trained."""

    @property
    def features(self) -> np.ndarray:
        """What it gives for them: [examples, features]."""
        ...

    @property
    def blocks(self) -> tuple[str, ...]:
        """The paths of those of its blocks that are trained."""
        ...

    def without(self, block: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        """For each channel of what a block returns: the features of some of the examples,
        [rows, features], were that channel 0.
        """
        ...


@dataclass(frozen=True)
class Scope:
    """What an objective may read besides the batch.

    Attributes:
      params: the trainable parameters, the method's own networks included.
      memory: what the method keeps beside the parameters (teacher, references, random matrices).
      hyper: the method's strengths, as arrays, and what it has measured.
      progress: 0 at the first step, 1 at the end.
      key: randomness of this step and phase.
      call: ``call(name, inputs)`` runs one of the method's networks.
      forward: ``forward(inputs, params=None)`` is a further pass through the model, with other
        trainable parameters (a teacher's, say) if given; it never updates statistics.
    """

    params: Params
    memory: Params
    hyper: Hyperparameters
    progress: Float[Array, ""]
    key: jax.Array
    call: Callable[..., Any]
    forward: Callable[..., Outputs]


Objective = Callable[[Source, Target, Scope], tuple[Float[Array, ""], Terms]]
"""``objective(source, target, scope) -> (value to minimise, named terms)``.

A domain that the phase does not read arrives as None.
"""


@dataclass(frozen=True)
class Phase:
    """One update: what is minimised, which parameters move, and which domains are read.

    Attributes:
      objective: the value to minimise.
      trains: patterns over parameter paths; the phase moves the trainable leaves that match one.
      reads: the domains that are forwarded in training mode, of "source" and "target".
      repeats: how many times in a row the update runs on the same batch.
    """

    objective: Objective
    trains: tuple[str, ...] = (".*",)
    reads: tuple[str, ...] = ("source", "target")
    repeats: int = 1


def _nothing(params: Params, key: jax.Array) -> Params:
    del params, key
    return {}


def _unchanged(source: Source | None, target: Target | None, scope: Scope) -> Params:
    del source, target
    return scope.memory


@dataclass(frozen=True)
class Method:
    """A training method: a record of pure functions.

    Attributes:
      phases: the updates of one step, in order.
      networks: the method's own networks by name; their parameters live under that name.
      remember: ``remember(params, key) -> memory`` before the first step, from the trainable
        parameters.
      update_memory: ``update_memory(source, target, scope) -> memory`` after every step. The
        domains are as the step's phases last forwarded them, without gradients; ``scope.params``
        are the new parameters, ``scope.memory`` is the memory of the step that ends.
      hyper: the strengths and their defaults, read as ``scope.hyper[name]``.
      measure: ``measure(pretrained, labels) -> arrays``, before the first step: what the method has
        to know of the labelled training examples; each is read as ``scope.hyper[name]`` too.
      oracle: trained on target labels, to be reported apart.
    """

    phases: tuple[Phase, ...]
    networks: Mapping[str, Model] = field(default_factory=dict)
    remember: Callable[[Params, jax.Array], Params] = _nothing
    update_memory: Callable[[Any, Any, Scope], Params] = _unchanged
    hyper: Mapping[str, float] = field(default_factory=dict)
    measure: Callable[[Pretrained, np.ndarray], Mapping[str, Array]] | None = None
    oracle: bool = False


class TrainState(NamedTuple):
    """Everything a run is: with the batch of a step, it determines the rest of training."""

    step: Int[Array, ""]
    seed: Int[Array, ""]
    """All randomness is folded from the seed and the step."""
    params: Params
    """The trainable parameters."""
    frozen: Params
    """The parameters that no gradient is taken for."""
    stats: Stats
    optimizer: Any
    memory: Params
