"""The data that ships with jtl."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jtl.data import embedded
from jtl.errors import UserError
from jtl.types import Preprocess

RGB_64 = Preprocess(64, 3, (0.0,) * 3, (1.0,) * 3)
GREY_28 = Preprocess(28, 1, (0.0,), (1.0,), "bilinear")


@pytest.mark.parametrize("file", sorted(embedded.CHECKSUMS))
def test_shipped_files_are_those_that_the_tool_built(file: str) -> None:
    data = (embedded.FILES / file).read_bytes()
    assert hashlib.sha256(data).hexdigest() == embedded.CHECKSUMS[file]


def test_shipped_files_take_at_most_14_megabytes() -> None:
    assert sum(path.stat().st_size for path in embedded.FILES.iterdir()) <= 14e6


def test_both_houses_drew_the_same_1906_emoji_of_9_categories() -> None:
    google = embedded.load("emoji/google", RGB_64)
    twitter = embedded.load("emoji/twitter", RGB_64)
    for emoji in (google, twitter):
        assert emoji.inputs.shape == (1906, 64, 64, 3) and emoji.inputs.dtype == np.uint8
        assert len(emoji.classes) == 9 and "Component" not in emoji.classes
        assert np.bincount(emoji.labels).tolist() == [85, 159, 270, 131, 264, 386, 169, 224, 218]
        assert len(set(emoji.identities)) == 1906
        assert emoji.notes == ()
    assert (google.identities == twitter.identities).all()
    assert (google.labels == twitter.labels).all()
    assert (google.inputs != twitter.inputs).any(axis=(1, 2, 3)).all()


def test_the_emoji_are_laid_over_white() -> None:
    corners = embedded.load("emoji/twitter", RGB_64).inputs[:, 0, 0]
    assert np.mean((corners == 255).all(axis=1)) > 0.9


def test_mnist_has_10000_digits() -> None:
    digits = embedded.load("mnist", GREY_28)
    assert digits.inputs.shape == (10_000, 28, 28, 1) and digits.inputs.max() == 255
    counts = [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]
    assert np.bincount(digits.labels).tolist() == counts


def test_optdigits_are_laid_out_as_mnist() -> None:
    digits = embedded.load("optdigits", GREY_28)
    assert digits.inputs.shape == (1797, 28, 28, 1) and digits.inputs.dtype == np.uint8
    inside = digits.inputs[:, 4:24, 4:24]
    assert inside.sum(dtype=int) == digits.inputs.sum(dtype=int) > 0
    assert inside[:, (0, -1)].any()
    mean = load_digits().images.mean() * 255 / 16
    np.testing.assert_allclose(inside.mean(), mean, rtol=0.02)
    assert digits.classes == embedded.load("mnist", GREY_28).classes


def test_images_are_brought_to_the_backbone_and_it_is_said() -> None:
    emoji = embedded.load("emoji/google", Preprocess(32, 1, (0.0,), (1.0,)))
    assert emoji.inputs.shape == (1906, 32, 32, 1)
    assert emoji.notes == (
        "RGB images were made grey",
        "images of 64 x 64 were resized to 32 x 32, bicubic",
    )


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no embedded:emoji/gogle; did you mean emoji/google"):
        embedded.load("emoji/gogle", RGB_64)


def test_a_backbone_of_vectors_is_refused() -> None:
    with pytest.raises(UserError, match=r"embedded:mnist: holds images"):
        embedded.load("mnist", None)


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mnist.npz").write_bytes((embedded.FILES / "mnist.npz").read_bytes()[:-1])
    monkeypatch.setattr(embedded, "FILES", tmp_path)
    embedded._read.cache_clear()
    with pytest.raises(UserError, match=r"mnist.npz: differs"):
        embedded.load("mnist", GREY_28)
    with pytest.raises(UserError, match=r"emoji.npz: is missing"):
        embedded.load("emoji/google", RGB_64)
