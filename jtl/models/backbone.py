"""What a backbone is."""

from collections.abc import Callable
from dataclasses import dataclass

from jtl.models.chain import Blocks
from jtl.types import Params, Preprocess, Stats


@dataclass(frozen=True)
class Backbone:
    """A feature extractor: pixels from 0 to 255 [B, size, size, channels] -> features [B, width].

    Attributes:
      name: as in a config.
      blocks: ``blocks(axis_name=None)`` makes the blocks in order; the first one normalises the
        pixels, the last one returns the features. ``axis_name`` is the mapped axis over which
        batch norm averages, under ``pmap``.
      preprocess: how it wants its images; None where its inputs are vectors.
      width: the number of features.
      weights: parameters and statistics by block name to start from; None starts at random.
      origin: the file or package of the weights, for the manifest; "" where there are none.
      sha256: of that file's bytes, in hexadecimal; "" where there is none.
      salt: of the random keys of what is put on these weights. Weights that jtl trained have one:
        features fit the head that they were trained with, down to its first values, and a run with
        the same seed would draw that very head again.
    """

    name: str
    blocks: Callable[..., Blocks]
    preprocess: Preprocess | None
    width: int
    weights: tuple[Params, Stats] | None = None
    origin: str = ""
    sha256: str = ""
    salt: int = 0
