"""Reads the state dict of a PyTorch file safely, without PyTorch.

A ``.pth`` file is a pickle, and a pickle is a program. This reader is an interpreter of its own
that knows only the instructions a dictionary of tensors needs, three callables (which it imitates)
and the storage types; nothing in the file can name anything else. It then cuts the tensors out of
the file's bytes itself, checking every offset and stride. Both layouts are read, the zip archive
(PyTorch 1.6 and later) and the older sequence of pickles. ``torch.load`` itself, told to load
weights only, once ran code (CVE-2025-32434).
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from jtl.errors import UserError

_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickle of the number that opens an older file."""
_LEGACY_PROTOCOL = 1001

_DTYPES: dict[str, Any] = {
    "torch DoubleStorage": "<f8",
    "torch FloatStorage": "<f4",
    "torch HalfStorage": "<f2",
    "torch BFloat16Storage": ml_dtypes.bfloat16,
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
}
_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"


class _Global(NamedTuple):
    name: str


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _RefusedError(Exception):
    """What is wrong with a file, to be read after its name."""


def read_state_dict(content: bytes, name: str) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch state dict by name, as read-only arrays.

    Args:
      content: the file.
      name: of the file, for messages.

    Raises:
      UserError: the file is not a state dict, is damaged, or would run code.
    """
    try:
        if content.startswith(_ZIP):
            return _read_zip(content)
        if content.startswith(_LEGACY):
            return _read_legacy(content)
    except _RefusedError as error:
        raise UserError(f"{name} {error}") from error
    except (
        # Reading on in bytes that are not what they should be ends in one of these.
        *(ArithmeticError, AttributeError, EOFError, LookupError, TypeError, ValueError),
        *(NotImplementedError, RuntimeError, zipfile.BadZipFile),
    ) as error:
        raise UserError(f"{name} is damaged or cut short; fetch it again") from error
    if content[:64].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(f"{name} is a web page, not weights; download the file itself")
    raise UserError(f"{name} is not a PyTorch file; write one with torch.save(model.state_dict())")


def _read_zip(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
        if "data.pkl" not in entries:
            raise _RefusedError(
                "is a zip archive but not one of PyTorch's; give the .pth file itself"
            )
        # A compressed entry could unfold to any size.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise _RefusedError("is a compressed archive; save it again with PyTorch")
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise _RefusedError("was written big-endian; save it again on another machine")
        tensors = _named(_interpret(io.BytesIO(archive.read(entries["data.pkl"]))))
        return _cut(tensors, lambda key: archive.read(entries[f"data/{key}"]))


def _read_legacy(content: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(content)
    stream.seek(len(_LEGACY))
    protocol, system = _interpret(stream), _interpret(stream)
    if protocol != _LEGACY_PROTOCOL or not system["little_endian"]:
        raise _RefusedError("was written big-endian or by an unknown PyTorch; save it again")
    tensors, keys = _named(_interpret(stream)), _interpret(stream)
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    found: dict[str, bytes] = {}
    for key in keys:
        size = int.from_bytes(stream.read(8), "little")
        if size != storages[key].size:
            raise _RefusedError(f"is damaged: storage {key} has {size} elements")
        found[key] = stream.read(size * storages[key].dtype.itemsize)
    return _cut(tensors, found.__getitem__)


def _interpret(stream: BinaryIO) -> Any:
    """Runs one pickle up to its end and returns its value, made of plain data and records."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(stream):
        match opcode.name:
            case "PROTO":
                pass
            case "STOP":
                return stack.pop()
            case "GLOBAL":
                stack.append(_known(argument))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(_call(stack.pop(), arguments))
            case "BINPERSID":
                stack.append(_storage(*stack.pop()))
            case "BUILD":
                stack.pop()  # attributes of a dictionary: the versions of its modules
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                stack.append(argument)
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"DICT": dict, "LIST": list, "TUPLE": tuple}[opcode.name[6:]]())
            case "MARK":
                marks.append(len(stack))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                start = len(stack) - int(opcode.name[-1])
                stack[start:] = [tuple(stack[start:])]
            case "TUPLE":
                start = marks.pop()
                stack[start:] = [tuple(stack[start:])]
            case "APPEND" | "APPENDS":
                start = marks.pop() if opcode.name == "APPENDS" else len(stack) - 1
                stack[start - 1].extend(stack[start:])
                del stack[start:]
            case "SETITEM" | "SETITEMS":
                start = marks.pop() if opcode.name == "SETITEMS" else len(stack) - 2
                _set_items(stack[start - 1], stack[start:])
                del stack[start:]
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case other:
                raise _RefusedError(
                    f"has the pickle instruction {other}, which no state dict needs"
                )
    raise EOFError


def _known(name: str) -> _Global:
    if name not in (_DICT, _TENSOR, _PARAMETER, *_DTYPES):
        spelt = name.replace(" ", ".")
        raise _RefusedError(f"names {spelt}, which could run code; save only model.state_dict()")
    return _Global(name)


def _call(function: Any, arguments: Any) -> Any:
    if function == _Global(_DICT) and arguments == ():
        return {}
    if function == _Global(_TENSOR):
        storage, offset, shape, stride, *_ = arguments  # then gradient and hooks
        return _Tensor(storage, offset, shape, stride)
    if function == _Global(_PARAMETER):
        return arguments[0]
    raise _RefusedError("calls what is no function; save only model.state_dict()")


def _set_items(target: Any, items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str):
            raise _RefusedError(
                f"is keyed by {type(key).__name__}, not by names; save a state dict"
            )
        target[key] = value


def _storage(kind: Any, dtype: Any, key: Any, location: Any, size: Any, view: Any = None) -> Any:
    del location  # the device it was on
    if not (kind == "storage" and isinstance(dtype, _Global) and dtype.name in _DTYPES):
        raise _RefusedError("refers to something that is no storage")
    if not isinstance(key, str) or not _is_count(size) or view is not None:
        raise _RefusedError(
            "has a storage of an unknown form; save it again with a current PyTorch"
        )
    return _Storage(key, np.dtype(_DTYPES[dtype.name]), size)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _named(tree: Any) -> dict[str, _Tensor]:
    if not isinstance(tree, dict) or not tree:
        raise _RefusedError("is not a dictionary of tensors; save model.state_dict()")
    for name, tensor in tree.items():
        if not isinstance(tensor, _Tensor):
            kind = type(tensor).__name__
            raise _RefusedError(f"has a {kind} named {name!r} among its tensors; save a state dict")
    return tree


def _cut(tensors: dict[str, _Tensor], find: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    found: dict[str, bytes] = {}
    arrays = {}
    for name, tensor in tensors.items():
        storage, offset, shape, stride = tensor
        if storage.key not in found:
            found[storage.key] = find(storage.key)
        content = found[storage.key]
        if len(content) != storage.size * storage.dtype.itemsize:
            raise _RefusedError(f"is cut short: {name} lacks bytes; fetch it again")
        counts = (offset, *shape, *stride)
        if not all(map(_is_count, counts)) or len(shape) != len(stride):
            raise _RefusedError(f"has a malformed shape: {name}")
        reach = sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        # As many elements as the storage at most: a step of 0 could repeat one without end.
        if math.prod(shape) and (offset + reach >= storage.size or math.prod(shape) > storage.size):
            raise _RefusedError(f"has a tensor that reaches out of its storage: {name}")
        base = np.frombuffer(content, storage.dtype)
        steps = [
            step * storage.dtype.itemsize if n > 1 else 0
            for n, step in zip(shape, stride, strict=True)
        ]
        arrays[name] = np.lib.stride_tricks.as_strided(base[offset:], shape, steps, writeable=False)
    return arrays
