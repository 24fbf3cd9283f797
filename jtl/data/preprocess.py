"""Bringing images to a backbone's size and channels.

Grey becomes RGB by repetition, RGB becomes grey by its luminance (ITU-R 601), transparency is laid
over white. What is not square is resized by its shorter side and cropped at the centre.
Normalisation is no part of this: it is the first thing a backbone does.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from jtl.errors import UserError
from jtl.types import Preprocess, Sound, Tokenization, Wanted

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
MODES = {1: "L", 3: "RGB"}
KINDS = {1: "grey", 3: "RGB"}


TAKEN: Mapping[type, str] = {
    Preprocess: "images",
    Tokenization: "texts",
    Sound: "sounds",
    type(None): "vectors",
}
"""What a backbone takes that wants its inputs so."""


def of_images(name: str, wanted: Wanted | None) -> Preprocess:
    """What a backbone asks of images.

    Args:
      name: of a set that holds images.
      wanted: by the backbone.

    Raises:
      UserError: it takes no images.
    """
    if not isinstance(wanted, Preprocess):
        raise refused(name, "images", wanted)
    return wanted


def refused(name: str, held: str, wanted: Wanted | None) -> UserError:
    """That a set holds what the backbone does not take.

    Args:
      name: of the set.
      held: what it holds, as in :data:`TAKEN`.
      wanted: by the backbone.
    """
    return UserError(
        f"{name}: holds {held}, and this backbone takes {TAKEN[type(wanted)]}; choose a backbone "
        f"that takes {held}"
    )


def fit(image: Image.Image, preprocess: Preprocess) -> UInt8[np.ndarray, "size size channels"]:
    """An image (mode "L" or "RGB") in the backbone's size and channels."""
    size, filtered = (preprocess.size, preprocess.size), FILTERS[preprocess.interpolation]
    if preprocess.squash:
        image = image.resize(size, filtered)
    elif image.size != size or preprocess.crop < 1:
        image = ImageOps.fit(image, size, filtered, bleed=(1 - preprocess.crop) / 2)
    mode = MODES[preprocess.channels]
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.reshape(*size, preprocess.channels)


def over_white(image: Image.Image) -> Image.Image:
    """An image with transparency (any mode that converts to "RGBA") laid over white: "RGB"."""
    drawing = image.convert("RGBA")
    canvas = Image.new("RGBA", drawing.size, "white")
    canvas.alpha_composite(drawing)
    return canvas.convert("RGB")


def resize_array(
    images: UInt8[np.ndarray, "examples height width channels"], preprocess: Preprocess
) -> UInt8[np.ndarray, "examples size size wanted"]:
    """Images of one set, of 1 channel (grey), 3 (RGB) or 4 (RGB and alpha), as a backbone wants."""
    channels = images.shape[3]
    wanted = (preprocess.size, preprocess.size, preprocess.channels)
    if images.shape[1:] == wanted and preprocess.crop == 1:
        return images
    resized = np.empty((len(images), *wanted), np.uint8)
    for index, pixels in enumerate(images):
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        resized[index] = fit(over_white(image) if channels == 4 else image, preprocess)
    return resized


def changes(shape: tuple[int, ...], preprocess: Preprocess) -> tuple[str, ...]:
    """What :func:`resize_array` does to images of this shape, one sentence each."""
    _, height, width, channels = shape
    size, wanted = preprocess.size, preprocess.channels
    notes = []
    if channels == 4:
        notes.append("transparency was laid over white")
    if min(channels, 3) != wanted:
        notes.append(f"{KINDS[min(channels, 3)]} images were made {KINDS[wanted]}")
    if height != width:
        how = "squeezed" if preprocess.squash else "cropped"
        notes.append(
            f"images were {how} to a square{'' if preprocess.squash else ' at the centre'}"
        )
    if preprocess.crop < 1:
        notes.append(f"the middle {preprocess.crop:.1%} of each side were kept")
    if min(height, width) != size:
        notes.append(
            f"images of {height} x {width} were resized to {size} x {size}, "
            f"{preprocess.interpolation}"
        )
    return tuple(notes)
