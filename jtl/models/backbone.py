"""What a backbone is."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from jtl.errors import UserError
from jtl.models.chain import Blocks
from jtl.types import Params, Stats, Tokenization, Wanted


@dataclass(frozen=True)
class Backbone:
    """A feature extractor: inputs -> features [B, width].

    Inputs are pixels from 0 to 255 [B, size, size, channels], tokens [B, T] or vectors.

    Attributes:
      name: as in a config.
      blocks: ``blocks(axis_name=None)`` makes the blocks in order; the first one normalises the
        pixels, the last one returns the features. ``axis_name`` is the mapped axis over which
        batch norm averages, under ``pmap``.
      wanted: what it asks of its inputs; None where they are vectors.
      width: the number of features.
      architecture: what ``random:`` calls its blocks, or their family
        (:mod:`jtl.models.families`); "" where there are none.
      settings: what its family makes the same blocks from; empty where it has no family.
      weights: parameters and statistics by block name to start from; None starts at random.
      origin: the file or package of the weights, for the manifest; "" where there are none.
      sha256: of that file's bytes, in hexadecimal; "" where there is none.
      salt: of the random keys of what is put on these weights. Weights that jtl trained have one:
        features fit the head that they were trained with, down to its first values, and a run with
        the same seed would draw that very head again.
      head: the parameters of the :func:`jtl.models.heads.head` that the weights were trained with,
        directly on the features; None where there was none.
    """

    name: str
    blocks: Callable[..., Blocks]
    wanted: Wanted | None
    width: int
    architecture: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[Params, Stats] | None = None
    origin: str = ""
    sha256: str = ""
    salt: int = 0
    head: Params | None = None


def shortened(found: Backbone, most: int) -> Backbone:
    """A backbone of texts that gets at most ``most`` tokens of each.

    Raises:
      UserError: it takes no texts, or not so many tokens.
    """
    wanted = found.wanted
    if not isinstance(wanted, Tokenization):
        raise UserError(f"model.max_tokens: {found.name} takes no texts; set 0")
    if most > wanted.longest:
        raise UserError(
            f"model.max_tokens is {most}; {found.name} reads {wanted.longest} tokens at most"
        )
    wanted = replace(wanted, longest=most)
    return replace(found, wanted=wanted, settings={**found.settings, "wanted": asdict(wanted)})


def image_side(wanted: int, *, own: int, smallest: int, name: str) -> int:
    """The side of the images that a backbone gets, in pixels.

    Args:
      wanted: by the user; 0 leaves it to the backbone.
      own: of the backbone.
      smallest: that the backbone can tell something from.
      name: of the backbone.

    Raises:
      UserError: ``wanted`` is below ``smallest``.
    """
    if 0 < wanted < smallest:
        raise UserError(
            f"model.image_size is {wanted}; {name} takes images of {smallest} pixels or more"
        )
    return wanted or own
