"""The backbones that jtl has, by the names that a config may use."""

from jtl import registry
from jtl.errors import UserError
from jtl.models.backbone import Backbone
from jtl.models.pretrained import load


def package(name: str, *, image_size: int = 0, pooling: str = "") -> Backbone:
    """The pretrained backbone whose weights ship in an installed package.

    Args:
      name: of the package.
      image_size: side of the input in pixels; 0 is the backbone's own.
      pooling: of the tokens; "" is the backbone's own.
    """
    if name not in registry.PACKAGES:
        return load.package(name, image_size=image_size, pooling=pooling)
    require_own_pooling(pooling, f"package:{name}")
    return registry.resolve("package", name, "model.backbone")(image_size=image_size)


def random(name: str, *, image_size: int = 0, pooling: str = "") -> Backbone:
    """A backbone that starts at random.

    Args:
      name: of the architecture.
      image_size: side of the input in pixels; 0 is the backbone's own.
      pooling: of the tokens; "" is the backbone's own.
    """
    if name not in registry.ARCHITECTURES:
        return load.random(name, image_size=image_size, pooling=pooling)
    require_own_pooling(pooling, f"random:{name}")
    return registry.resolve("architecture", name, "model.backbone")(image_size=image_size)


def require_own_pooling(pooling: str, name: str) -> None:
    """Says that a backbone has no tokens to pool, if it is told how to pool them.

    Raises:
      UserError: it is.
    """
    if pooling:
        raise UserError(f"model.pooling: {name} has no tokens to pool; leave it empty")


def vectors(width: str, *, image_size: int = 0, pooling: str = "") -> Backbone:
    """No backbone: the inputs are features already, or the columns of a table.

    Args:
      width: how many numbers an example has.
      image_size: of no meaning here.
      pooling: of no meaning here.
    """
    del image_size, pooling
    return Backbone(f"features:{width}", lambda axis_name=None: (), None, int(width))
