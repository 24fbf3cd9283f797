"""EfficientNet-Lite0 written once more, in NumPy, float64 and PyTorch's layout and names.

It follows the published table of the network and knows nothing of jtl; it is slow and plain.
"""

import numpy as np

Tensors = dict[str, np.ndarray]

# Blocks, kernel, stride of the first, expansion, width.
STAGES = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]


def features(tensors: Tensors, pixels: np.ndarray) -> np.ndarray:
    """[B, H, W, 3] pixels -> [B, 1280]; ``tensors`` by the names of the PyTorch port."""
    x = (pixels.astype(np.float64).transpose(0, 3, 1, 2) - 127) / 128
    x = _relu6(_norm(tensors, "_bn0", _convolution(x, tensors["_conv_stem.weight"], 2)))
    index, width_in = 0, 32
    for blocks, _, first_stride, expansion, width in STAGES:
        for block in range(blocks):
            stride = 1 if block else first_stride
            y = _block(tensors, f"_blocks.{index}.", x, stride, expansion)
            x = x + y if stride == 1 and width_in == width else y
            index, width_in = index + 1, width
    x = _relu6(_norm(tensors, "_bn1", _convolution(x, tensors["_conv_head.weight"], 1)))
    return x.mean((2, 3))


def logits(tensors: Tensors, pixels: np.ndarray) -> np.ndarray:
    """[B, H, W, 3] pixels -> [B, 1000]."""
    return features(tensors, pixels) @ tensors["_fc.weight"].T + tensors["_fc.bias"]


def _block(tensors: Tensors, prefix: str, x: np.ndarray, stride: int, expansion: int) -> np.ndarray:
    if expansion > 1:
        x = _convolution(x, tensors[prefix + "_expand_conv.weight"], 1)
        x = _relu6(_norm(tensors, prefix + "_bn0", x))
    x = _convolution(x, tensors[prefix + "_depthwise_conv.weight"], stride)
    x = _relu6(_norm(tensors, prefix + "_bn1", x))
    x = _convolution(x, tensors[prefix + "_project_conv.weight"], 1)
    return _norm(tensors, prefix + "_bn2", x)


def _convolution(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """TensorFlow's SAME convolution; depthwise where the kernel has one input channel of many."""
    size = weight.shape[-1]
    outputs = [int(np.ceil(axis / stride)) for axis in x.shape[2:]]
    total = [
        max((out - 1) * stride + size - axis, 0)
        for out, axis in zip(outputs, x.shape[2:], strict=True)
    ]
    x = np.pad(x, [(0, 0), (0, 0)] + [(extra // 2, extra - extra // 2) for extra in total])
    depthwise = weight.shape[1] == 1
    result = np.zeros((len(x), len(weight), *outputs))
    for row in range(outputs[0]):
        for column in range(outputs[1]):
            top, left = row * stride, column * stride
            window = x[:, :, top : top + size, left : left + size]
            formula = "bchw,chw->bc" if depthwise else "bchw,ochw->bo"
            result[:, :, row, column] = np.einsum(
                formula, window, weight[:, 0] if depthwise else weight
            )
    return result


def _norm(tensors: Tensors, name: str, x: np.ndarray) -> np.ndarray:
    weight, bias, mean, variance = (
        tensors[f"{name}.{part}"][:, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(variance + 1e-3) * weight + bias


def _relu6(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, 6)
