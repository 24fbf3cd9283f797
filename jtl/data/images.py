"""Image files of every kind, decoded into what a backbone takes."""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from jtl.data.examples import Lazy
from jtl.data.preprocess import fit, over_white
from jtl.errors import UserError
from jtl.types import Preprocess

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MEMORY_LIMIT = 2 * 2**30
"""Sets that take more bytes than this once decoded are left on disk."""
_ORIENTATION = 0x0112  # the EXIF tag


class Picture(NamedTuple):
    """A decoded image, and what had to be done to it besides resizing."""

    pixels: UInt8[np.ndarray, "size size channels"]
    changes: tuple[str, ...]


def threads() -> int:
    """How many decode: one for each core that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decode(path: Path, preprocess: Preprocess) -> UInt8[np.ndarray, "size size channels"]:
    """An image file in the backbone's size and channels; an error names the file."""
    return read(path, preprocess).pixels


def read(path: Path, preprocess: Preprocess) -> Picture:
    """As :func:`decode`, together with what had to be done to the image."""
    return decoded(_encoded(path), str(path), preprocess)


def _encoded(path: Path) -> bytes:
    """A file's content, read at once: each read on its own would wait for other threads."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except PermissionError as error:
        raise UserError(f"{path}: may not be read; change its permissions") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def decoded(encoded: bytes, where: str, preprocess: Preprocess) -> Picture:
    """As :func:`read`, from a file's content; ``where`` names it in errors."""
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            image, changes = plain(opened)
    except Exception as error:  # damage makes PIL raise nearly anything: even TypeError
        raise UserError(
            f"{where}: cannot be decoded ({brief(error)}); mend or remove it"
        ) from error
    return finish(image, changes, preprocess)


def finish(image: Image.Image, changes: Sequence[str], preprocess: Preprocess) -> Picture:
    """An image of mode "L" or "RGB" as the backbone wants it, ``changes`` having been made."""
    changes = list(changes)
    if image.width != image.height:
        changes.append("squeezed" if preprocess.squash else "cropped to a square at the centre")
    if image.mode == "L" and preprocess.channels == 3:
        changes.append("grey made RGB")
    if image.mode == "RGB" and preprocess.channels == 1:
        changes.append("RGB made grey")
    return Picture(fit(image, preprocess), tuple(changes))


def brief(error: Exception) -> str:
    """The first line of an error, without the path that PIL puts into some."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "no image, or of an unknown kind"
    return str(error).partition("\n")[0] or type(error).__name__


def plain(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The image upright in mode "L" or "RGB", and what was done to get there.

    Damage makes PIL raise nearly anything.
    """
    image.load()
    changes = []
    if _turned(image):
        image = ImageOps.exif_transpose(image)
        changes.append("turned upright as its EXIF orientation says")
    if image.mode == "I" or image.mode.startswith("I;16"):
        changes.append("16-bit levels made 8-bit")
        return _eight_bits(image), changes
    if image.mode == "F":
        raise ValueError("floating-point levels, whose range is unknown")
    if image.has_transparency_data:
        drawing = image.convert("RGBA")
        if drawing.getchannel("A").getextrema() != (255, 255):
            changes.append("transparency laid over white")
        return over_white(drawing), changes
    if image.mode in ("L", "RGB"):  # no copy: of a large photograph it takes as long as decoding
        return image, changes
    if image.mode == "1":
        return image.convert("L"), changes
    if image.mode != "P":
        changes.append(f"{image.mode} made RGB")
    return image.convert("RGB"), changes


def _turned(image: Image.Image) -> bool:
    """Whether an orientation is given that is another than upright (1) and unknown (0)."""
    try:
        return image.getexif().get(_ORIENTATION) in range(2, 9)
    except Exception:  # what is damaged is said of the image, and the image itself is whole
        return False


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits (0 to 65,535) as 8 bits (0 to 255)."""
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 65_535:
        raise ValueError("levels of more than 16 bits")
    return Image.fromarray(np.rint(levels / 257).astype(np.uint8))


@dataclass(frozen=True)
class Files:
    """Image files, decoded when asked for."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "size size channels"]:
        return decode(self.paths[index], self.preprocess)

    def stamp(self, index: int) -> str:
        """Name and size of the file."""
        return f"{self.names[index]} {self.paths[index].stat().st_size}"

    def fingerprint(self, index: int) -> str:
        """Of the file and what is done to it."""
        return encoded_fingerprint(_encoded(self.paths[index]), self.preprocess)

    def read_all(self) -> tuple[UInt8[np.ndarray, "files size size channels"], tuple[str, ...]]:
        """All files decoded, and what was done to how many of them."""
        with ThreadPoolExecutor(threads()) as pool:
            pictures = pool.map(lambda path: read(path, self.preprocess), self.paths)
            return gather(pictures, len(self), self.preprocess)


def gather(
    pictures: Iterable[Picture], count: int, preprocess: Preprocess
) -> tuple[UInt8[np.ndarray, "pictures size size channels"], tuple[str, ...]]:
    """``count`` pictures as one array, and what was done to how many of them."""
    images = np.empty((count, preprocess.size, preprocess.size, preprocess.channels), np.uint8)
    counts: Counter[str] = Counter()
    for index, picture in enumerate(pictures):
        images[index] = picture.pixels
        counts.update(picture.changes)
    notes = [f"{done} of {count} images: {change}" for change, done in sorted(counts.items())]
    return images, tuple(notes)


def encoded_fingerprint(encoded: bytes, preprocess: Preprocess) -> str:
    """A hash of an image that is not decoded, and of what will be done to it."""
    return hashlib.sha256(repr(preprocess).encode() + b"\0" + encoded).hexdigest()


def decoded_bytes(count: int, preprocess: Preprocess) -> int:
    """What ``count`` images take in memory."""
    return count * preprocess.size**2 * preprocess.channels


def stack(inputs: Lazy, indices: Sequence[int]) -> np.ndarray:
    """Some inputs of a lazy set as one array."""
    return np.stack([inputs[int(index)] for index in indices])
