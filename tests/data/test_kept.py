"""Images that are decoded once."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from jtl.data.kept import Kept

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), np.uint8)


class Counted:
    """Lazy images, and which of them were decoded."""

    def __init__(self) -> None:
        self.decoded: list[int] = []

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, index: int) -> np.ndarray:
        self.decoded.append(index)
        return PIXELS[index]

    def stamp(self, index: int) -> str:
        return f"stamp {index}"

    def fingerprint(self, index: int) -> str:
        return f"fingerprint {index}"


@pytest.fixture
def base() -> Counted:
    return Counted()


@pytest.fixture
def kept(base: Counted, tmp_path: Path) -> Kept:
    kept = Kept(base, tmp_path)
    base.decoded.clear()
    return kept


def test_each_image_is_decoded_once_and_stays_the_same(base: Counted, kept: Kept) -> None:
    for index in (3, 39, 0, 3, 39, 3):
        np.testing.assert_array_equal(kept[index], PIXELS[index])
    assert base.decoded == [3, 39, 0]


def test_threads_read_what_others_have_written(base: Counted, kept: Kept) -> None:
    order = np.random.default_rng(1).integers(0, 40, 2000).tolist()
    with ThreadPoolExecutor(8) as pool:
        for index, pixels in zip(order, pool.map(kept.__getitem__, order), strict=True):
            np.testing.assert_array_equal(pixels, PIXELS[index])
    base.decoded.clear()
    assert all((kept[index] == PIXELS[index]).all() for index in range(40)) and not base.decoded


def test_nothing_is_left_in_the_folder(kept: Kept, tmp_path: Path) -> None:
    assert (kept[0] == PIXELS[0]).all()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("full", ["error", "part"])
def test_on_a_full_disk_images_are_decoded_again(
    base: Counted, kept: Kept, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system may say so, or write as much as there is room for."""

    def refuse(file: int, data: bytes, place: int) -> int:
        if full == "error":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:-1], place)

    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", refuse)
    for _ in range(2):
        np.testing.assert_array_equal(kept[5], PIXELS[5])
    assert base.decoded == [5, 5]


def test_a_change_of_a_file_is_still_told(kept: Kept) -> None:
    assert len(kept) == 40
    assert (kept.stamp(7), kept.fingerprint(7)) == ("stamp 7", "fingerprint 7")
