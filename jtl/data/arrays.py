"""``arrays:FILE.npz``: arrays that the user made.

``inputs``: images, uint8 [examples, height, width, channels]; vectors [examples, features]; or
sounds, waves of 16 kHz [examples, samples] or log-mel spectrograms [examples, frames, bands].
Optional: ``labels`` [examples], integers; ``classes``, their names; ``identities`` [examples], for
what must not be torn apart by a split; ``split`` [examples], "train" or "test".
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jtl.data.examples import Examples
from jtl.data.preprocess import changes, of_images, resize_array
from jtl.errors import UserError, nearest
from jtl.types import Sound, Wanted

KEYS = ("inputs", "labels", "classes", "identities", "split")
_ONE = {"vectors": "features", "sounds": "samples"}


def load(argument: str, wanted: Wanted | None) -> Examples:
    """The arrays of a file, checked; a backbone of vectors wants nothing of them."""
    name = f"arrays:{argument}"
    path = Path(argument).expanduser()
    arrays = read(name, path)
    inputs, notes = fitted(name, arrays["inputs"], wanted)
    labels, classes = _labels(name, arrays)
    if labels is not None:
        counts = np.bincount(labels, minlength=len(classes))
        empty = [classes[index] for index in np.flatnonzero(counts == 0)]
        notes += (f"no examples of class {', '.join(empty)}",) if empty else ()
    positions = range(len(inputs))
    own = [f"{path.resolve()}[{index}]" for index in positions]
    return Examples(
        name=name,
        inputs=inputs,
        labels=labels,
        classes=classes,
        names=np.array([f"{path.name}[{index}]" for index in positions]),
        identities=arrays.get("identities", np.array(own)).astype(str),
        split=_split(name, arrays),
        notes=notes,
    )


def fitted(
    name: str, inputs: np.ndarray, wanted: Wanted | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Images, vectors or sounds as a backbone wants them, and what had to be done to them.

    Args:
      name: of the inputs, for messages.
      inputs: images, uint8 [examples, height, width, channels] or without channels, vectors, or
        sounds.
      wanted: by the backbone; None where it takes vectors.

    Raises:
      UserError: they are not what the backbone takes.
    """
    if wanted is None:
        return _numbers(name, inputs, "vectors", (0,)), ()
    if isinstance(wanted, Sound):
        return _sounds(name, inputs, wanted)
    preprocess = of_images(name, wanted)
    images, notes = _images(name, inputs)
    return resize_array(images, preprocess), notes + changes(images.shape, preprocess)


def read(name: str, path: Path) -> dict[str, np.ndarray]:
    """The file's arrays, all as long as the inputs.

    Raises:
      UserError: the file cannot be read, or holds an unknown array or one of another length.
    """
    if not path.exists():
        raise UserError(f"{name}: there is no such file (looked for {path.absolute()})")
    try:
        with path.open("rb") as file:  # opened here, for numpy leaves a broken file open
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise UserError(f"{name}: holds one bare array; write numpy.savez(inputs=...)")
            with archive:
                arrays = dict(archive)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if "pickle" in str(error).lower():
            cause = "it is no npz file, or holds Python objects, which are never loaded"
        else:
            cause = str(error).partition("\n")[0]
        raise UserError(f"{name}: cannot be read ({cause}); write it with numpy.savez") from error
    for key in arrays:
        if key not in KEYS:
            raise UserError(f"{name}: unknown array {key!r}; {nearest(key, KEYS)}")
    if "inputs" not in arrays:
        raise UserError(f"{name}: has no array 'inputs'; it has {', '.join(arrays) or 'nothing'}")
    _check_lengths(name, arrays)
    return arrays


def _check_lengths(name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Every column must be one-dimensional and as long as the inputs."""
    if arrays["inputs"].ndim == 0 or len(arrays["inputs"]) == 0:
        raise UserError(f"{name}: 'inputs' holds no examples")
    count = len(arrays["inputs"])
    for key in ("labels", "identities", "split"):
        if key in arrays and arrays[key].shape != (count,):
            raise UserError(
                f"{name}: {key!r} has shape {arrays[key].shape}, but 'inputs' has {count} examples"
            )


def _numbers(name: str, inputs: np.ndarray, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Vectors or sounds as float32, all numbers finite; ``shape`` is of one, 0 any number."""
    fits = inputs.ndim == 1 + len(shape) and all(
        wanted in (0, found) for wanted, found in zip(shape, inputs.shape[1:], strict=True)
    )
    if not fits or inputs.dtype.kind not in "fiub":
        one = f"frames, {shape[1]}" if len(shape) == 2 else _ONE[kind]
        raise UserError(
            f"{name}: 'inputs' is {inputs.dtype} of shape {inputs.shape}, but this backbone takes "
            f"{kind}: numbers of shape [examples, {one}]"
        )
    with np.errstate(over="ignore"):  # what overflows is reported below
        numbers = inputs.astype(np.float32)
    bad = np.argwhere(~np.isfinite(numbers))
    if len(bad):
        place = tuple(bad[0].tolist())
        raise UserError(
            f"{name}: inputs{list(place)} is {inputs[place]} ({len(bad)} values are not "
            "finite in float32); remove or fill them"
        )
    return numbers


def _sounds(name: str, inputs: np.ndarray, wanted: Sound) -> tuple[np.ndarray, tuple[str, ...]]:
    """Sounds of one length; waves are brought to mean 0 and variance 1, as wav2vec 2.0 has them."""
    sounds = _numbers(name, inputs, "sounds", wanted.shape)
    if 0 < wanted.longest < sounds.shape[1]:
        raise UserError(
            f"{name}: sounds have {sounds.shape[1]} frames, and this backbone takes "
            f"{wanted.longest} at most; cut them"
        )
    if sounds.ndim > 2:
        return sounds, ()
    mean, variance = sounds.mean(1, keepdims=True), sounds.var(1, keepdims=True)
    return (sounds - mean) / np.sqrt(variance + 1e-7), ("sounds were brought to variance 1",)


def _images(name: str, inputs: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Images as uint8 [examples, height, width, channels]."""
    if inputs.dtype != np.uint8 or inputs.ndim not in (3, 4):
        raise UserError(
            f"{name}: 'inputs' is {inputs.dtype} of shape {inputs.shape}, but this backbone takes "
            "images: uint8 from 0 to 255 of shape [examples, height, width, channels]"
        )
    if 0 in inputs.shape[1:]:
        raise UserError(f"{name}: 'inputs' is of shape {inputs.shape}, images without pixels")
    if inputs.ndim == 3:
        return inputs[..., None], ("images without channels were taken to be grey",)
    if inputs.shape[3] not in (1, 3, 4):
        raise UserError(
            f"{name}: images have {inputs.shape[3]} channels; 1 (grey), 3 (RGB) and 4 (RGB and "
            "alpha) are known, and channels come last"
        )
    return inputs, ()


def _labels(
    name: str, arrays: Mapping[str, np.ndarray]
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels within range and the names of their classes."""
    if "labels" not in arrays:
        return None, ()
    labels = arrays["labels"]
    if labels.dtype.kind not in "iu":
        raise UserError(f"{name}: 'labels' is {labels.dtype}; it must hold integers from 0")
    if "classes" in arrays:
        given = arrays["classes"]
        if given.ndim != 1 or given.dtype.kind not in "US" or len(set(given)) != len(given):
            raise UserError(f"{name}: 'classes' must be a list of different strings")
        classes = tuple(given.astype(str).tolist())
    else:
        # No more classes than examples: one absurd label must not make a billion names.
        classes = tuple(str(index) for index in range(min(int(labels.max()) + 1, len(labels))))
    bad = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(bad):
        raise UserError(
            f"{name}: labels[{bad[0]}] is {labels[bad[0]]}, but it has {len(classes)} "
            "classes, numbered from 0"
        )
    if len(np.unique(labels)) == 1:
        raise UserError(
            f"{name}: one class only ({classes[labels[0]]}), so there is nothing to tell apart; "
            "add examples of another, or leave 'labels' out for an unlabelled set"
        )
    return labels.astype(np.int32), classes


def _split(name: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    if "split" not in arrays:
        return None
    split = arrays["split"].astype(str)
    bad = np.flatnonzero(~np.isin(split, ("train", "test")))
    if len(bad):
        raise UserError(
            f"{name}: split[{bad[0]}] is {str(split[bad[0]])!r}; it must be train or test"
        )
    return split
