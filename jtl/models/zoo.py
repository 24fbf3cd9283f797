"""The backbones that jtl has, by the names that a config may use."""

from collections.abc import Callable

from jtl.errors import UserError, nearest
from jtl.models import digits_convnet, efficientnet_lite
from jtl.models.backbone import Backbone


def package(name: str, *, image_size: int = 0) -> Backbone:
    """The pretrained backbone whose weights ship in an installed package.

    Args:
      name: of the package.
      image_size: side of the input in pixels; 0 is the backbone's own.
    """
    known = {efficientnet_lite.PACKAGE: efficientnet_lite.pretrained}
    return _choose(name, known)(image_size=image_size)


def random(name: str, *, image_size: int = 0) -> Backbone:
    """A backbone that starts at random.

    Args:
      name: of the architecture.
      image_size: side of the input in pixels; 0 is the backbone's own.
    """
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
