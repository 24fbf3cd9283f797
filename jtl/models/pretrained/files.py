"""The files of a checkpoint: its config, its weights, its tokenizer."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jtl.errors import UserError
from jtl.models.torch_file import read_state_dict

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class Files:
    """Where the files of a checkpoint are.

    Attributes:
      name: of the checkpoint, for messages.
      find: ``find(name)`` is the path of one of its files, or None.
      origin: of the checkpoint, with its revision, for the manifest.
    """

    name: str
    find: Callable[[str], Path | None]
    origin: str

    def path(self, name: str) -> Path:
        """Where a file is.

        Raises:
          UserError: there is none of that name.
        """
        found = self.find(name)
        if found is None:
            raise UserError(f"{self.name} has no {name}, and jtl needs it; name another checkpoint")
        return found

    def json(self, name: str) -> Any:
        """The content of a JSON file.

        Raises:
          UserError: there is none of that name, or it is none.
        """
        return _json(self.path(name))

    def json_if_any(self, name: str) -> Any:
        """The content of a JSON file; an empty dictionary where there is none."""
        found = self.find(name)
        return {} if found is None else _json(found)

    def weights(self) -> tuple[dict[str, np.ndarray], str]:
        """All tensors by name, and the sha256 of the file (of several, that of their hashes).

        Raises:
          UserError: a file is missing or damaged.
        """
        index = self.json_if_any(INDEX)
        names = sorted(set(index["weight_map"].values())) if index else [WEIGHTS]
        paths = [self.find(name) for name in names]
        if None in paths:
            raise UserError(
                f"{self.name} has no {names[paths.index(None)]}; if its weights are in another "
                f"format, convert them: jtl convert WEIGHTS.pth {WEIGHTS}"
            )
        tensors, hashes = {}, []
        for path in filter(None, paths):
            more, sha256 = read_tensors(path)
            tensors |= more
            hashes.append(sha256)
        joined = hashlib.sha256("".join(hashes).encode()).hexdigest()
        return tensors, hashes[0] if len(hashes) == 1 else joined


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """The tensors of a .safetensors or a PyTorch file by name, and its sha256.

    Raises:
      UserError: it cannot be read, is damaged, or would run code.
    """
    from safetensors import SafetensorError, safe_open

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if path.suffix != ".safetensors":
        return read_state_dict(content, str(path)), sha256
    try:
        # Its function that reads bytes does not know bfloat16.
        with safe_open(path, framework="numpy") as opened:
            names = opened.keys()
            return {name: opened.get_tensor(name) for name in names}, sha256
    except AttributeError as error:  # a type of numbers that NumPy has no name for
        raise UserError(
            f"{path}: holds numbers that jtl does not read ({error}); name weights in float32, "
            "float16 or bfloat16"
        ) from error
    except SafetensorError as error:
        raise UserError(f"{path}: is damaged ({error}); fetch it again") from error


def metadata(path: Path) -> Mapping[str, str]:
    """What a .safetensors file says of itself."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            return opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is damaged ({error}); fetch it again") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: is no JSON file ({error}); fetch it again") from error
