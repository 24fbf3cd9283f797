"""What a backbone is, and how a reference in a config becomes one."""

from collections.abc import Callable
from dataclasses import dataclass

from jtl.errors import UserError, nearest
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
    """

    name: str
    blocks: Callable[..., Blocks]
    preprocess: Preprocess | None
    width: int
    weights: tuple[Params, Stats] | None = None
    origin: str = ""
    sha256: str = ""


def package(name: str, *, image_size: int = 0) -> Backbone:
    """The pretrained backbone whose weights ship in an installed package.

    Args:
      name: of the package.
      image_size: side of the input in pixels; 0 is the backbone's own.
    """
    # Architectures import this module, and NNX takes seconds to import.
    from jtl.models import efficientnet_lite

    known = {efficientnet_lite.PACKAGE: efficientnet_lite.pretrained}
    return _choose(name, known)(image_size=image_size)


def random(name: str, *, image_size: int = 0) -> Backbone:
    """A backbone that starts at random.

    Args:
      name: of the architecture.
      image_size: side of the input in pixels; 0 is the backbone's own.
    """
    from jtl.models import digits_convnet, efficientnet_lite  # as above

    known = {
        efficientnet_lite.NAME: efficientnet_lite.backbone,
        digits_convnet.NAME: digits_convnet.backbone,
    }
    return _choose(name, known)(image_size=image_size)


def vectors(width: str, *, image_size: int = 0) -> Backbone:
    """No backbone: the inputs are features already, or the columns of a table.

    Args:
      width: how many numbers an example has.
      image_size: must be 0.
    """
    if not width.isdecimal() or int(width) < 1 or image_size:
        raise UserError(
            f"model.backbone: features:{width} does not say how many features an example has; "
            "write features:64, say, and leave model.image_size at 0"
        )
    return Backbone(f"features:{width}", lambda axis_name=None: (), None, int(width))


def _choose(name: str, known: dict[str, Callable[..., Backbone]]) -> Callable[..., Backbone]:
    if name not in known:
        raise UserError(f"model.backbone: unknown backbone {name!r}; {nearest(name, known)}")
    return known[name]
