"""The data that ships with jtl: emoji drawn by two houses, two sets of digits, rated texts from
four places, and two kinds of tumours.

``tools/embed_data.py`` built the files; NOTICE holds their licences.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jtl import registry
from jtl.data.examples import Examples
from jtl.data.preprocess import changes, of_images, refused, resize_array
from jtl.data.texts import of_texts, tokens
from jtl.errors import UserError
from jtl.types import Wanted

FILES = Path(__file__).parent / "files"
CHECKSUMS = {
    "emoji.npz": "77e36c89417bf2a7ee5a80939202d3249f1c84fd5fa7c9ada429caf924aef182",
    "mnist.npz": "29f7e412a2d57447c339a8f5d6f3240bf5917b436b5717d9d749fe43ab28592d",
    "sentiment.npz": "ab7b707330b9f40782fed3463d7e366c84178c7cd33b208632a3932a57ff1395",
}
DIGITS = tuple("0123456789")


def load(argument: str, wanted: Wanted | None) -> Examples:
    """An embedded set by name.

    ``emoji/google`` and ``emoji/twitter``: 1,906 emoji at 64 px in 9 categories; the two hold the
    same emoji (their identity is the code point) in the same order. ``mnist``: 10,000 digits.
    ``optdigits``: the 1,797 digits of scikit-learn, laid out as MNIST's are.

    ``sentiment/amazon``, ``film``, ``nyt`` and ``tweets``: sentences of product reviews, film
    reviews, editorials and tweets, half positive and half negative; those of one review or
    editorial have one identity. ``tumours/even`` and ``coarse``: 27 measurements of cells, of
    tumours that are benign or malignant; the two hold those whose texture is at most, or above, the
    median, and the three columns that say so are left out.
    """
    reference = f"embedded:{argument}"
    registry.split("data", reference, "data")
    group, _, part = argument.partition("/")
    if group == "sentiment":
        return _sentiment(reference, part, wanted)
    if group == "tumours":
        return _tumours(reference, part, wanted)
    preprocess = of_images(reference, wanted)
    images, labels, classes, names, identities = _images(argument)
    return Examples(
        name=reference,
        inputs=resize_array(images, preprocess),
        labels=labels,
        classes=classes,
        names=names,
        identities=identities,
        notes=changes(images.shape, preprocess),
    )


_Images = tuple[np.ndarray, np.ndarray, tuple[str, ...], np.ndarray, np.ndarray]


def _images(argument: str) -> _Images:
    """Images as they are stored, labels, classes, names and identities."""
    if argument.startswith("emoji/"):
        arrays = _read("emoji.npz")
        return (
            arrays[argument.removeprefix("emoji/")],
            arrays["labels"].astype(np.int32),
            tuple(str(name) for name in arrays["classes"]),
            arrays["names"],
            arrays["identities"],
        )
    if argument == "mnist":
        arrays = _read("mnist.npz")
        images, labels = arrays["images"][..., None], arrays["labels"]
    else:
        images, labels = _optdigits()
    names = np.array([f"{argument}/{index:05d}" for index in range(len(labels))])
    return images, labels.astype(np.int32), DIGITS, names, names


@cache
def _read(file: str) -> dict[str, np.ndarray]:
    """The arrays of a shipped file, its checksum verified; read once, for its domains share it."""
    path = FILES / file
    if not path.exists():
        raise UserError(f"{path}: is missing from this installation; install jtl again")
    if hashlib.sha256(path.read_bytes()).hexdigest() != CHECKSUMS[file]:
        raise UserError(f"{path}: differs from the file that jtl ships; install jtl again")
    with np.load(path) as archive:
        return dict(archive)


def _optdigits() -> tuple[np.ndarray, np.ndarray]:
    """Digits enlarged from 8 px to 20 and centred in 28, the layout of MNIST."""
    from sklearn.datasets import load_digits  # takes a second or two to import

    pixels, labels = load_digits(return_X_y=True)
    images = np.zeros((len(pixels), 28, 28, 1), np.uint8)
    for index, levels in enumerate(np.reshape(pixels, (-1, 8, 8))):
        small = Image.fromarray(np.rint(levels * (255 / 16)).astype(np.uint8))
        images[index, 4:24, 4:24, 0] = np.asarray(small.resize((20, 20), Image.Resampling.BICUBIC))
    return images, np.asarray(labels)


def _sentiment(reference: str, domain: str, wanted: Wanted | None) -> Examples:
    """Sentences by their mean rating, above or below 0 (Hutto and Gilbert, ICWSM 2014)."""
    tokenization = of_texts(reference, wanted)
    arrays = _read("sentiment.npz")
    texts = arrays[f"{domain}_texts"].tobytes().decode().split("\n")
    inputs, notes = tokens(texts, tokenization)
    return Examples(
        name=reference,
        inputs=inputs,
        labels=arrays[f"{domain}_labels"].astype(np.int32),
        classes=("negative", "positive"),
        names=np.array(texts),
        identities=np.array([f"{domain}/{number}" for number in arrays[f"{domain}_sources"]]),
        padding=tokenization.padding,
        notes=notes,
    )


def _tumours(reference: str, part: str, wanted: Wanted | None) -> Examples:
    """Breast tumours (Street, Wolberg and Mangasarian, 1993), on either side of a median."""
    from sklearn.datasets import load_breast_cancer

    if wanted is not None:
        raise refused(reference, "vectors", wanted)
    bunch: Any = load_breast_cancer()
    texture = bunch.data[:, list(bunch.feature_names).index("mean texture")]
    coarse = texture > np.median(texture)
    rows = np.flatnonzero(coarse == (part == "coarse"))
    columns = [index for index, name in enumerate(bunch.feature_names) if "texture" not in name]
    names = np.array([f"tumours/{index:03d}" for index in rows])
    return Examples(
        name=reference,
        inputs=bunch.data[rows][:, columns].astype(np.float32),
        labels=(bunch.target[rows] == 0).astype(np.int32),  # scikit-learn's 1 is benign
        classes=("benign", "malignant"),
        names=names,
        identities=names,
    )
