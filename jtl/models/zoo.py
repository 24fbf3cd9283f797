"""The backbones that jtl has, by the names that a config may use."""

from jtl import registry
from jtl.models.backbone import Backbone


def package(name: str, *, image_size: int = 0) -> Backbone:
    """The pretrained backbone whose weights ship in an installed package.

    Args:
      name: of the package.
      image_size: side of the input in pixels; 0 is the backbone's own.
    """
    return registry.resolve("package", name, "model.backbone")(image_size=image_size)


def random(name: str, *, image_size: int = 0) -> Backbone:
    """A backbone that starts at random.

    Args:
      name: of the architecture.
      image_size: side of the input in pixels; 0 is the backbone's own.
    """
    return registry.resolve("architecture", name, "model.backbone")(image_size=image_size)


def vectors(width: str, *, image_size: int = 0) -> Backbone:
    """No backbone: the inputs are features already, or the columns of a table.

    Args:
      width: how many numbers an example has.
      image_size: of no meaning here.
    """
    del image_size
    return Backbone(f"features:{width}", lambda axis_name=None: (), None, int(width))
