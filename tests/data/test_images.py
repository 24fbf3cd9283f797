"""Image files of every kind, and arrays of images."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jtl.data.images import decode, read, threads
from jtl.data.preprocess import changes, resize_array
from jtl.errors import UserError
from jtl.types import Preprocess

GREY = Preprocess(8, 1, (0.0,), (1.0,), "bilinear")
RGB = Preprocess(8, 3, (0.0,) * 3, (1.0,) * 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_an_image_of_the_right_size_is_left_as_it_is(tmp_path: Path) -> None:
    picture = read(save(tmp_path / "a.png", Image.fromarray(PIXELS)), RGB)
    np.testing.assert_array_equal(picture.pixels, PIXELS)
    assert picture.changes == ()


def test_grey_is_repeated_for_a_backbone_of_rgb(tmp_path: Path) -> None:
    picture = read(save(tmp_path / "a.png", Image.fromarray(PIXELS[..., 0])), RGB)
    np.testing.assert_array_equal(picture.pixels, np.repeat(PIXELS[..., :1], 3, axis=2))
    assert picture.changes == ("grey made RGB",)


def test_colour_becomes_luminance_for_a_backbone_of_grey(tmp_path: Path) -> None:
    picture = read(save(tmp_path / "a.png", Image.fromarray(PIXELS)), GREY)
    expected = PIXELS @ np.array([0.299, 0.587, 0.114])
    assert picture.pixels.shape == (8, 8, 1)
    assert np.abs(picture.pixels[..., 0] - expected).max() < 1
    assert picture.changes == ("RGB made grey",)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4, :, 3] = 255
    pixels[4:6, :, 3] = 51
    picture = read(save(tmp_path / "a.png", Image.fromarray(pixels)), RGB)
    assert picture.pixels[:, 0, 0].tolist() == [0] * 4 + [204] * 2 + [255] * 2
    assert picture.changes == ("transparency laid over white",)


def test_an_opaque_alpha_channel_is_no_change_worth_saying(tmp_path: Path) -> None:
    pixels = np.dstack([PIXELS, np.full((8, 8), 255, np.uint8)])
    assert read(save(tmp_path / "a.png", Image.fromarray(pixels)), RGB).changes == ()


def test_a_transparent_palette_entry_is_laid_over_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.tile(np.array([[0, 1]], np.uint8), (8, 4)), "P")
    image.putpalette([200, 0, 0, 0, 90, 0])
    picture = read(save(tmp_path / "a.png", image, transparency=1), RGB)
    assert picture.pixels[0, 0].tolist() == [200, 0, 0]
    assert picture.pixels[0, 1].tolist() == [255, 255, 255]


def test_a_palette_without_transparency_gives_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.tile(np.array([[0, 1]], np.uint8), (8, 4)), "P")
    image.putpalette([200, 0, 0, 0, 90, 0])
    picture = read(save(tmp_path / "a.png", image), RGB)
    assert picture.pixels[0, 1].tolist() == [0, 90, 0]
    assert picture.changes == ()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_levels_keep_their_brightness(tmp_path: Path, suffix: str) -> None:
    levels = np.tile(np.array([0, 257, 128 * 257, 65_535], np.uint16), (8, 2))
    picture = read(save(tmp_path / f"a.{suffix}", Image.fromarray(levels)), GREY)
    assert picture.pixels[0, :4, 0].tolist() == [0, 1, 128, 255]
    assert picture.changes == ("16-bit levels made 8-bit",)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    picture = read(save(tmp_path / "a.tif", image), RGB)
    assert picture.pixels[0, 0].tolist() == [255, 0, 0]
    assert picture.changes == ("CMYK made RGB",)


def test_the_exif_orientation_is_followed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture = read(save(tmp_path / "a.png", Image.fromarray(PIXELS), exif=exif), RGB)
    np.testing.assert_array_equal(picture.pixels, PIXELS[::-1, ::-1])
    assert picture.changes == ("turned upright as its EXIF orientation says",)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_an_unknown_orientation_is_upright(tmp_path: Path, suffix: str) -> None:
    """Cameras write 0 where they do not know; 9 is nothing at all."""
    expected = decode(save(tmp_path / f"a.{suffix}", Image.fromarray(PIXELS)), RGB)
    for orientation in (0, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = save(tmp_path / f"{orientation}.{suffix}", Image.fromarray(PIXELS), exif=exif)
        picture = read(path, RGB)
        np.testing.assert_array_equal(picture.pixels, expected)
        assert picture.changes == ()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_an_image_is_decoded_whose_exif_is_damaged(tmp_path: Path, suffix: str) -> None:
    expected = decode(save(tmp_path / f"a.{suffix}", Image.fromarray(PIXELS)), RGB)
    damaged = b"Exif\0\0" + bytes(40)
    picture = read(save(tmp_path / f"b.{suffix}", Image.fromarray(PIXELS), exif=damaged), RGB)
    np.testing.assert_array_equal(picture.pixels, expected)
    assert picture.changes == ()


def test_an_oblong_image_is_cropped_at_the_centre(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, 16:32] = 255
    picture = read(save(tmp_path / "a.png", Image.fromarray(pixels)), RGB)
    assert picture.pixels.shape == (8, 8, 3) and picture.pixels[:, 1:-1].min() == 255
    assert picture.changes == ("cropped to a square at the centre",)


def test_the_interpolation_is_the_backbones(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(np.tile(PIXELS, (2, 2, 1))))
    bilinear = Preprocess(8, 3, RGB.mean, RGB.std, "bilinear")
    for preprocess, method in (
        (RGB, Image.Resampling.BICUBIC),
        (bilinear, Image.Resampling.BILINEAR),
    ):
        with Image.open(path) as image:
            expected = np.asarray(image.resize((8, 8), method))
        np.testing.assert_array_equal(decode(path, preprocess), expected)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tif"])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = save(tmp_path / f"broken.{suffix}", Image.fromarray(noise))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        UserError, match=rf"broken.{suffix}: cannot be decoded \(.+\); mend"
    ) as info:
        decode(path, RGB)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("data", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a.png: cannot be decoded \(no image"):
        decode(path, RGB)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_whatever_byte_is_damaged_the_file_is_decoded_or_named(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(PIXELS))
    whole = path.read_bytes()
    named = 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            assert decode(path, RGB).shape == (8, 8, 3)
        except UserError as error:
            assert str(error).startswith(f"{path}: cannot be decoded")
            named += 1
    assert named > 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone.png: there is no such file"):
        decode(tmp_path / "gone.png", RGB)


def test_a_directory_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        decode(tmp_path, RGB)


def test_a_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, f"Permission denied ({mode})", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, whom nothing stops
    with pytest.raises(UserError, match=r"a.png: may not be read"):
        decode(tmp_path / "a.png", RGB)


def test_as_many_threads_decode_as_the_process_has_cores_to_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 128)  # of a machine that is shared
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {4, 5, 9}, raising=False)
    assert threads() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert threads() == 128


def test_floating_point_images_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.zeros((8, 8), np.float32)))
    with pytest.raises(UserError, match=r"a.tif: cannot be decoded \(floating-point levels"):
        decode(path, RGB)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("preprocess", [GREY, RGB], ids=["grey", "rgb"])
def test_arrays_are_prepared_as_files_are(
    tmp_path: Path, channels: int, preprocess: Preprocess
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 10, 12, channels), np.uint8)
    resized = resize_array(images, preprocess)
    for index, pixels in enumerate(images):
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        path = save(tmp_path / f"{index}.png", image)
        np.testing.assert_array_equal(resized[index], decode(path, preprocess))


def test_arrays_of_the_right_size_are_not_copied() -> None:
    images = np.zeros((2, 8, 8, 1), np.uint8)
    assert resize_array(images, GREY) is images
    assert changes(images.shape, GREY) == ()


def test_what_was_done_to_arrays_is_said() -> None:
    assert changes((5, 4, 6, 4), GREY) == (
        "transparency was laid over white",
        "RGB images were made grey",
        "images were cropped to a square at the centre",
        "images of 4 x 6 were resized to 8 x 8, bilinear",
    )
