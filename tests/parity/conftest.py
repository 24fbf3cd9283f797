"""Oracles for the architectures: timm and transformers, on PyTorch. No part of the usual tests.

They have an environment of their own, see tools/parity.sh.
"""

import torch

# torchvision, which timm imports, wants operations that PyTorch's CPU build does not have.
_STUBS = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _STUBS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
