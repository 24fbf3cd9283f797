"""From PyTorch's files of weights to safetensors. Needs no JAX, and no PyTorch."""

from pathlib import Path

import ml_dtypes
import numpy as np

from jtl.models.pretrained.files import metadata, read_tensors
from jtl.records.atomic import replacing

ARCHITECTURE = "architecture"
"""In a .safetensors file's metadata: which of timm's architectures it holds."""


def convert(source: Path, file: Path, *, architecture: str = "") -> str:
    """Writes the tensors of a file of weights as safetensors, atomically.

    What is bfloat16 becomes float32, which holds every value of it and which NumPy knows.

    Args:
      source: a PyTorch file of a state dict, or a .safetensors file.
      file: the new one.
      architecture: which of timm's the file is to say that it holds; "" is what the source says.

    Returns:
      What was done, in a sentence.

    Raises:
      UserError: the source cannot be read, is damaged or would run code, or nothing can be written.
    """
    from safetensors.numpy import save

    tensors, sha256 = read_tensors(source)
    plain = {name: _plain(tensor) for name, tensor in tensors.items()}
    if source.suffix == ".safetensors" and not architecture:
        architecture = metadata(source).get(ARCHITECTURE, "")
    content = save(plain, {ARCHITECTURE: architecture} if architecture else None)
    with replacing(file) as temporary:
        temporary.write_bytes(content)
    count = sum(tensor.size for tensor in plain.values())
    said = f"; it says that it holds {architecture}" if architecture else ""
    return (
        f"{file}: {len(plain)} tensors of {count:,} numbers, from {source} with sha256 {sha256}"
        f"{said}"
    )


def _plain(tensor: np.ndarray) -> np.ndarray:
    dtype = np.dtype(np.float32) if tensor.dtype == ml_dtypes.bfloat16 else tensor.dtype
    return np.array(tensor, dtype, order="C")
