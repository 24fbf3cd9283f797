"""PyTorch's files written as safetensors; the files are assembled by hand."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import test_torch_file as torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from jtl.errors import UserError
from jtl.models.pretrained import convert as converting
from jtl.models.pretrained.convert import convert
from jtl.models.pretrained.files import metadata


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six numbers as a turned matrix, as one number, and six more in bfloat16."""
    program = torch.dictionary(
        turned=torch.tensor("FloatStorage", "0", 6, (3, 2), (1, 3)),
        counter=torch.tensor("FloatStorage", "0", 6, (), (), offset=5),
        half=torch.tensor("BFloat16Storage", "1", 6, (6,), (1,)),
    )
    half = torch.SIX.astype(ml_dtypes.bfloat16).tobytes()
    file = tmp_path / "weights.pth"
    file.write_bytes(torch.zipped(program, _0=torch.SIX.tobytes(), _1=half))
    return file


def test_tensors_keep_names_shapes_and_values(source: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    said = convert(source, file)
    assert f"{file}: 3 tensors of 13 numbers, from {source} with sha256 " in said
    tensors = load_file(file)
    np.testing.assert_array_equal(tensors["turned"], torch.SIX.reshape(2, 3).T)
    assert tensors["counter"].shape == () and tensors["counter"] == 5
    assert tensors["half"].dtype == np.float32
    np.testing.assert_array_equal(tensors["half"], torch.SIX)
    with safe_open(file, framework="numpy") as opened:
        assert opened.metadata() is None
    assert [path.name for path in tmp_path.iterdir() if path != source] == [file.name]


def test_safetensors_in_bfloat16_are_read_too(tmp_path: Path) -> None:
    save_file({"half": torch.SIX.astype(ml_dtypes.bfloat16)}, tmp_path / "half.safetensors")
    convert(tmp_path / "half.safetensors", tmp_path / "single.safetensors")
    half = load_file(tmp_path / "single.safetensors")["half"]
    assert half.dtype == np.float32 and (half == torch.SIX).all()


def test_the_file_says_its_architecture_where_it_is_told(source: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    assert convert(source, file, architecture="resnet18").endswith("says that it holds resnet18")
    with safe_open(file, framework="numpy") as opened:
        assert opened.metadata() == {converting.ARCHITECTURE: "resnet18"}


def test_what_a_safetensors_file_says_of_itself_is_kept(source: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "first.safetensors", tmp_path / "again.safetensors"
    convert(source, first, architecture="resnet18")
    assert convert(first, again).endswith("says that it holds resnet18")
    assert metadata(again) == {converting.ARCHITECTURE: "resnet18"}


def test_numbers_that_numpy_has_no_name_for_are_refused_in_one_line(tmp_path: Path) -> None:
    header = b'{"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}'
    file = tmp_path / "eighth.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(UserError, match=r"holds numbers that jtl does not read .*float32"):
        convert(file, tmp_path / "out.safetensors")


def test_what_is_no_weights_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    source = tmp_path / "weights.pth"
    source.write_bytes(b"<html>")
    with pytest.raises(UserError, match="is a web page, not weights"):
        convert(source, tmp_path / "weights.safetensors")
    assert list(tmp_path.iterdir()) == [source]
