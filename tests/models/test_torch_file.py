"""Reading PyTorch files: pickles are assembled by hand, so that hostile ones can be too."""

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from jtl.errors import UserError
from jtl.models.torch_file import read_state_dict

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
TRUE, FALSE, NONE = b"\x88", b"\x89", b"N"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def group(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


ORDERED_DICT = name("collections", "OrderedDict") + b")R"


def storage(kind: str, key: str, size: int) -> bytes:
    return group(text("storage"), name("torch", kind), text(key), text("cpu"), number(size))


def tensor(
    kind: str,
    key: str,
    size: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    offset: int = 0,
    view: bytes = b"",
) -> bytes:
    reference = storage(kind, key, size)[:-1] + view + b"t" + b"Q"
    arguments = group(
        reference,
        number(offset),
        group(*map(number, shape)),
        group(*map(number, stride)),
        FALSE,
        ORDERED_DICT,
    )
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def dictionary(**entries: bytes) -> bytes:
    items = b"".join(text(key) + value for key, value in entries.items())
    return b"\x80\x02" + ORDERED_DICT + b"(" + items + b"u."


def zipped(
    program: bytes,
    *,
    compression: int = zipfile.ZIP_STORED,
    byteorder: bytes = b"little",
    **storages: bytes,
) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("model/data.pkl", program)
        archive.writestr("model/byteorder", byteorder)
        for key, content in storages.items():
            archive.writestr(f"model/data/{key[1:]}", content)
    return stream.getvalue()


def legacy(program: bytes, *, little: bytes = TRUE, **storages: tuple[int, bytes]) -> bytes:
    system = b"\x80\x02}(" + text("little_endian") + little + b"u."
    keys = b"\x80\x02](" + b"".join(text(key[1:]) for key in storages) + b"e."
    body = b"".join(struct.pack("<q", count) + content for count, content in storages.values())
    return MAGIC + b"\x80\x02M\xe9\x03." + system + program + keys + body


SIX = np.arange(6, dtype=np.float32)
MATRIX = tensor("FloatStorage", "0", 6, (2, 3), (3, 1))


def refusal(content: bytes) -> str:
    with pytest.raises(UserError) as caught:
        read_state_dict(content, "some.pth")
    message = str(caught.value)
    assert message.startswith("some.pth ")
    assert "\n" not in message
    return message


def test_both_layouts_are_read() -> None:
    for content in (
        zipped(dictionary(weight=MATRIX), _0=SIX.tobytes()),
        legacy(dictionary(weight=MATRIX), _0=(6, SIX.tobytes())),
    ):
        arrays = read_state_dict(content, "some.pth")
        assert list(arrays) == ["weight"]
        np.testing.assert_array_equal(arrays["weight"], SIX.reshape(2, 3))
        assert not arrays["weight"].flags.writeable


def test_strides_offsets_and_shared_storages_are_followed() -> None:
    program = dictionary(
        turned=tensor("FloatStorage", "0", 6, (3, 2), (1, 3)),
        tail=tensor("FloatStorage", "0", 6, (2,), (1,), offset=4),
        scalar=tensor("FloatStorage", "0", 6, (), (), offset=5),
        empty=tensor("FloatStorage", "0", 6, (0,), (1,)),
    )
    arrays = read_state_dict(zipped(program, _0=SIX.tobytes()), "some.pth")
    np.testing.assert_array_equal(arrays["turned"], SIX.reshape(2, 3).T)
    np.testing.assert_array_equal(arrays["tail"], [4, 5])
    assert arrays["scalar"] == 5
    assert arrays["empty"].shape == (0,)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("DoubleStorage", "<f8"),
        ("HalfStorage", "<f2"),
        ("BFloat16Storage", ml_dtypes.bfloat16),
        ("LongStorage", "<i8"),
        ("IntStorage", "<i4"),
        ("ShortStorage", "<i2"),
        ("CharStorage", "i1"),
        ("ByteStorage", "u1"),
        ("BoolStorage", "?"),
    ],
)
def test_every_type_keeps_its_values(kind: str, dtype: Any) -> None:
    values = np.array([0, 1, 3], dtype)
    program = dictionary(x=tensor(kind, "0", 3, (3,), (1,)))
    found = read_state_dict(zipped(program, _0=values.tobytes()), "some.pth")["x"]
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, values)


def test_parameters_and_the_attributes_of_a_state_dict_are_read_through() -> None:
    parameter = name("torch._utils", "_rebuild_parameter")
    parameter += group(MATRIX, TRUE, ORDERED_DICT) + b"R"
    program = dictionary(weight=parameter)[:-1] + b"}" + text("_metadata") + b"}sb."
    arrays = read_state_dict(zipped(program, _0=SIX.tobytes()), "some.pth")
    np.testing.assert_array_equal(arrays["weight"], SIX.reshape(2, 3))


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("layout", [zipped, legacy])
def test_a_program_that_calls_the_system_is_refused_and_does_nothing(
    layout: Callable[[bytes], bytes], protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(layout(pickle.dumps({"weight": _Payload()}, protocol)))
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n" + group(text("true")) + b"R.",
        name("torch.nn.modules.linear", "Linear") + b")\x81}b.",
        name("builtins", "eval") + group(text("1")) + b"R.",
        name("torch", "load") + group(text("x")) + b"R.",
        name("torch._utils", "_rebuild_tensor_v2.__globals__") + b".",
        b"(S'echo'\nios\nsystem\n.",
    ],
)
def test_names_beyond_the_three_callables_are_refused(program: bytes) -> None:
    assert "which" in refusal(zipped(b"\x80\x02" + program))


def test_a_whole_module_is_refused_by_name() -> None:
    program = b"\x80\x02" + name("torch.nn.modules.linear", "Linear") + b")\x81}b."
    message = refusal(zipped(program))
    assert "torch.nn.modules.linear.Linear" in message
    assert "state_dict" in message


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_a_file_cut_short_anywhere_is_refused(layout: str) -> None:
    program = dictionary(weight=MATRIX)
    whole = (
        zipped(program, _0=SIX.tobytes())
        if layout == "zip"
        else legacy(program, _0=(6, SIX.tobytes()))
    )
    for size in range(len(whole)):
        refusal(whole[:size])


@pytest.mark.parametrize(
    "bad",
    [
        tensor("FloatStorage", "0", 6, (7,), (1,)),
        tensor("FloatStorage", "0", 6, (2, 3), (4, 1)),
        tensor("FloatStorage", "0", 6, (6,), (1,), offset=1),
        tensor("FloatStorage", "0", 6, (2,), (1,), offset=-1),
        tensor("FloatStorage", "0", 6, (2,), (-1,), offset=1),
        tensor("FloatStorage", "0", 6, (-2,), (1,)),
        tensor("FloatStorage", "0", 6, (1000, 1000), (0, 0)),
        tensor("FloatStorage", "0", 6, (2, 3), (1,)),
        tensor("FloatStorage", "0", 7, (7,), (1,)),
        tensor("FloatStorage", "1", 6, (6,), (1,)),
        tensor("FloatStorage", "0", -6, (6,), (1,)),
        tensor("FloatStorage", "0", 6, (6,), (1,), view=group(text("v"), number(0), number(6))),
    ],
)
@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_tensors_that_reach_out_of_their_bytes_are_refused(bad: bytes, layout: str) -> None:
    program = dictionary(weight=bad)
    refusal(
        zipped(program, _0=SIX.tobytes())
        if layout == "zip"
        else legacy(program, _0=(6, SIX.tobytes()))
    )


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "not a PyTorch file"),
        (b"\n<!DOCTYPE html><html>404", "web page"),
        (b"\x93NUMPY\x01\x00", "not a PyTorch file"),
        (zipped(dictionary(weight=MATRIX), compression=zipfile.ZIP_DEFLATED), "compressed"),
        (zipped(dictionary(weight=MATRIX), byteorder=b"big", _0=SIX.tobytes()), "big-endian"),
        (legacy(dictionary(weight=MATRIX), little=FALSE, _0=(6, SIX.tobytes())), "big-endian"),
        (legacy(dictionary(weight=MATRIX), _0=(5, SIX.tobytes())), "damaged"),
        (zipped(b"\x80\x02}."), "not a dictionary of tensors"),
        (zipped(b"\x80\x02]."), "not a dictionary of tensors"),
        (zipped(dictionary(epoch=number(3))), "'epoch'"),
        (zipped(dictionary(state=b"}(" + text("weight") + MATRIX + b"u")), "'state'"),
        (zipped(b"\x80\x02}" + number(1) + MATRIX + b"s."), "int"),
        (zipped(b"\x80\x02" + group(text("anything")) + b"Q."), "damaged"),
        (zipped(b"\x80\x02" + text("x") + b")R."), "no function"),
    ],
)
def test_other_files_are_told_apart(content: bytes, part: str) -> None:
    assert part in refusal(content)


def test_another_zip_archive_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("photo.png", b"")
    assert "PyTorch" in refusal(stream.getvalue())


def test_a_flipped_byte_never_escapes_as_another_error() -> None:
    whole = legacy(dictionary(weight=MATRIX), _0=(6, SIX.tobytes()))
    read = 0
    for position in range(len(whole)):
        for flip in (0x01, 0x20, 0xFF):
            changed = bytearray(whole)
            changed[position] ^= flip
            try:
                read_state_dict(bytes(changed), "some.pth")
                read += 1
            except UserError:
                pass
    assert read > 0  # a changed value or name is still a state dict
