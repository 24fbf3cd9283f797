"""``tfds:NAME[/config]``: a data set prepared by TensorFlow Datasets, read without TensorFlow.

It must have been prepared as ``array_record`` (``download_and_prepare`` of a builder made with
``file_format="array_record"``), for the default file format needs TensorFlow to be read.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from jtl.data.examples import Examples, Inputs
from jtl.data.images import (
    MEMORY_LIMIT,
    Picture,
    decoded,
    decoded_bytes,
    encoded_fingerprint,
    finish,
    gather,
)
from jtl.data.preprocess import of_images
from jtl.errors import UserError, nearest
from jtl.types import Preprocess, Wanted

SPLITS = ("train", "test")


def load(argument: str, wanted: Wanted | None, *, memory_limit: int = MEMORY_LIMIT) -> Examples:
    """A prepared data set: by name below $TFDS_DATA_DIR, or by the path of its directory.

    Splits called train and test are kept apart; without both, all examples make one set. The
    inputs and labels are the data set's supervised keys, or its only features of fitting kind.
    A set of images that takes more than ``memory_limit`` bytes once decoded stays on disk.
    """
    import tensorflow_datasets as tfds  # takes seconds to import

    name = f"tfds:{argument}"
    builder: Any = tfds.builder_from_directory(str(_directory(name, argument)))
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(
            f"{name}: is stored as {builder.info.file_format.value}, which needs TensorFlow; "
            "prepare it again with file_format='array_record'"
        )
    splits, notes = _splits(name, builder)
    features = builder.info.features
    input_key, label_key = _keys(name, builder.info, tfds.features.ClassLabel)
    # Stored images are decoded here rather than by tfds: as files are, and not for the labels.
    stored = isinstance(features[input_key], tfds.features.Image)
    decoders = {input_key: tfds.decode.SkipDecoding()} if stored else None
    sources = tuple(builder.as_data_source(split=s, decoders=decoders) for s in splits)
    records = Records(builder.info.full_name, sources, input_key)
    if label_key is None:
        labels, classes = None, ()
        notes += ("no labels were found",)
    else:
        classes = tuple(features[label_key].names)
        labels = _labels(name, [row[label_key] for source in sources for row in source], classes)
    pictured = stored or wanted is not None
    preprocess = of_images(name, wanted) if pictured else None
    inputs, more = _inputs(records, preprocess, memory_limit)
    names = np.array([records.stamp(index) for index in range(len(records))])
    return Examples(
        name=name,
        inputs=inputs,
        labels=labels,
        classes=classes,
        names=names,
        identities=names,
        split=np.repeat(splits, [len(s) for s in sources]) if splits == SPLITS else None,
        notes=notes + more,
    )


@dataclass(frozen=True)
class Records:
    """The inputs of a data set's splits, one after another, decoded when asked for."""

    name: str
    sources: tuple[Any, ...]
    key: str

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def value(self, index: int) -> Any:
        """What stands in the record of example ``index``."""
        position = index
        for source in self.sources:
            if position < len(source):
                return source[position][self.key]
            position -= len(source)
        raise IndexError(index)

    def vector(self, index: int) -> Float[np.ndarray, " features"]:
        """Example ``index``, which must hold finite numbers in one dimension."""
        value = np.asarray(self.value(index))
        if value.ndim != 1 or value.dtype.kind not in "fiub" or not np.isfinite(value).all():
            raise UserError(
                f"{self.stamp(index)}: {self.key} is {value.dtype} of shape {value.shape}, "
                "but this backbone takes vectors of finite numbers"
            )
        return value.astype(np.float32)

    def picture(self, index: int, preprocess: Preprocess) -> Picture:
        """Example ``index``, which must hold an image: an encoded file, or an array of pixels."""
        value = self.value(index)
        if isinstance(value, bytes):
            return decoded(value, self.stamp(index), preprocess)
        if value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] not in (1, 3):
            raise UserError(
                f"{self.stamp(index)}: {self.key} is {value.dtype} of shape {value.shape}, "
                "but this backbone takes images: uint8, grey or RGB"
            )
        return finish(
            Image.fromarray(value[..., 0] if value.shape[2] == 1 else value), (), preprocess
        )

    def stamp(self, index: int) -> str:
        """The data set and the position in it: a prepared data set does not change."""
        return f"{self.name}[{index}]"


@dataclass(frozen=True)
class Pictures:
    """The images of a set that is too large for memory."""

    records: Records
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "size size channels"]:
        return self.records.picture(index, self.preprocess).pixels

    def stamp(self, index: int) -> str:
        """As the record's."""
        return self.records.stamp(index)

    def fingerprint(self, index: int) -> str:
        """Of the record and what is done to it."""
        value = self.records.value(index)
        encoded = value if isinstance(value, bytes) else f"{value.shape}".encode() + value.tobytes()
        return encoded_fingerprint(encoded, self.preprocess)


def _inputs(
    records: Records, preprocess: Preprocess | None, memory_limit: int
) -> tuple[Inputs, tuple[str, ...]]:
    """Vectors, images, or images left on disk; and what was done to them."""
    positions = range(len(records))
    if preprocess is None:
        return np.stack([records.vector(index) for index in positions]), ()
    if decoded_bytes(len(records), preprocess) > memory_limit:
        note = "too large for memory: images are decoded as they are needed"
        return Pictures(records, preprocess), (note,)
    pictures = (records.picture(index, preprocess) for index in positions)
    return gather(pictures, len(records), preprocess)


def _directory(name: str, argument: str) -> Path:
    """The directory of the newest version that was prepared."""
    root = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    for base in (Path(argument).expanduser(), root / argument):
        if (base / "dataset_info.json").exists():
            return base
        versions = [path.parent for path in base.glob("*/dataset_info.json")]
        if versions:
            return max(versions, key=_version)
    configs = sorted({path.parent.parent.name for path in base.glob("*/*/*_info.json")})
    if configs:
        raise UserError(f"{name}: name a config too: {', '.join(f'{name}/{c}' for c in configs)}")
    prepared = {path.relative_to(root).parts[0] for path in root.glob("**/dataset_info.json")}
    there = nearest(argument, prepared) if prepared else "it holds no data set at all"
    raise UserError(
        f"{name}: no such data set was prepared in {root} (set TFDS_DATA_DIR to look elsewhere); "
        f"{there}"
    )


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.name.split(".") if part.isdigit())


def _splits(name: str, builder: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The splits to read, and what was passed over."""
    present = tuple(split for split, info in builder.info.splits.items() if info.num_examples)
    if not present:
        raise UserError(f"{name}: holds no examples")
    if not set(SPLITS) <= set(present):
        return present, ()
    others = [split for split in present if split not in SPLITS]
    return SPLITS, (f"only train and test are read, not {', '.join(others)}",) if others else ()


def _keys(name: str, info: Any, class_label: type) -> tuple[str, str | None]:
    """The names of the features that hold inputs and labels."""
    features = info.features
    if info.supervised_keys is not None:
        input_key, label_key = info.supervised_keys[:2]
        if isinstance(features[label_key], class_label):
            return input_key, label_key
        raise UserError(f"{name}: its label {label_key!r} is no ClassLabel, so it has no classes")
    labels = [key for key, feature in features.items() if isinstance(feature, class_label)]
    inputs = [
        key
        for key, feature in features.items()
        if key not in labels and len(feature.shape or ()) in (1, 3)
    ]
    if len(inputs) != 1 or len(labels) > 1:
        raise UserError(
            f"{name}: cannot tell inputs and labels among {', '.join(features)}; "
            "prepare it with supervised_keys"
        )
    return inputs[0], labels[0] if labels else None


def _labels(name: str, values: list[Any], classes: tuple[str, ...]) -> np.ndarray:
    labels = np.array(values, np.int32)
    bad = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(bad):
        raise UserError(
            f"{name}: the label of example {bad[0]} is {labels[bad[0]]}, but it has "
            f"{len(classes)} classes, numbered from 0"
        )
    return labels
