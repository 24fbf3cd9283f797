"""Backbones of timm and transformers: the opponents of ``backbones.py``. Imports no JAX.

python benchmarks/backbones_torch.py NETWORK VARIANT INPUTS.npz

waits on its input for what ``backbones.py`` asks of it.
"""

import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from turns import seconds, serve

# torchvision, which timm imports, wants operations that PyTorch's CPU build does not have.
_STUBS = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _STUBS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


class Variant(NamedTuple):
    """A way of running the same network."""

    compiled: bool = False
    channels_last: bool = False


VARIANTS: Mapping[str, Variant] = {
    "torch eager": Variant(),
    "torch eager, channels-last": Variant(channels_last=True),
    "torch.compile": Variant(compiled=True),
    "torch.compile, channels-last": Variant(compiled=True, channels_last=True),
}


class Encoder(nn.Module):
    """MiniLM: the mean of BERT's tokens, without those that are padding."""

    def __init__(self) -> None:
        from transformers import BertConfig, BertModel

        super().__init__()
        config = BertConfig(
            hidden_size=384,
            num_hidden_layers=6,
            num_attention_heads=12,
            intermediate_size=1536,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.model = BertModel(config, add_pooling_layer=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens [B, T] -> [B, 384]."""
        mask = (tokens != 0).long()
        states = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _timm(name: str, **settings: bool) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import timm

        return timm.create_model(name, num_classes=0, **settings)

    return build


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    # Else every residual block would start as the identity.
    "resnet18": _timm("resnet18", zero_init_last=False),
    "resnet50": _timm("resnet50", zero_init_last=False),
    "vit_small_patch16_224": _timm("vit_small_patch16_224"),
    "efficientnet-lite0": _timm("tf_efficientnet_lite0"),
    "minilm": Encoder,
}
TUNED = ("blocks.6.", "conv_head.", "bn2.")
"""Of EfficientNet-Lite0, the parameters that fine-tuning trains, beside the head."""


class Trained(nn.Module):
    """A backbone and a head of ten classes."""

    def __init__(self, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(features, 10)

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean cross-entropy."""
        return functional.cross_entropy(self.head(self.backbone(inputs)), labels)


class Runs:
    """A network with what is asked of it.

    Args:
      network: out of :data:`NETWORKS`; with ", fine-tuned" after it the last blocks are trained
        alone, and batch norms keep their statistics.
      variant: out of :data:`VARIANTS`.
      given: ``inputs``, images [B, H, W, C] or tokens [B, T], and ``labels`` [B].
    """

    def __init__(self, network: str, variant: Variant, given: Mapping[str, np.ndarray]) -> None:
        torch.manual_seed(0)
        layout = torch.channels_last if variant.channels_last else torch.contiguous_format
        inputs = torch.from_numpy(given["inputs"])
        if inputs.ndim == 4:
            self.inputs = inputs.permute(0, 3, 1, 2).contiguous(memory_format=layout)
        else:
            self.inputs = inputs.long()
        self.labels = torch.from_numpy(given["labels"]).long()
        name, _, self._tuned = network.partition(", ")
        backbone = NETWORKS[name]().eval()
        for path, parameter in backbone.named_parameters():
            parameter.requires_grad_(not self._tuned or path.startswith(TUNED))
        with torch.inference_mode():
            width = backbone(self.inputs[:1]).shape[1]
        self.trained = Trained(backbone, width).to(memory_format=layout)
        if variant.compiled:
            self._forward, self._loss = torch.compile(backbone), torch.compile(self.trained)
        else:
            self._forward, self._loss = backbone, self.trained
        self._optimizer = torch.optim.SGD(
            [p for p in self.trained.parameters() if p.requires_grad],
            lr=0.001,
            momentum=0.9,
            fused=True,
        )

    def save(self, file: str) -> None:
        """Writes all tensors by name, those of the head under ``own_head``."""
        parts = {"": self.trained.backbone, "own_head.": self.trained.head}
        np.savez(
            file,
            **{
                prefix + name: tensor.numpy()
                for prefix, part in parts.items()
                for name, tensor in part.state_dict().items()
            },
        )

    def features(self) -> list[list[float]]:
        """Of all inputs, in eval mode."""
        self.trained.eval()
        return self._features().tolist()

    def losses(self, steps: int) -> list[float]:
        """Of some steps of training."""
        self.trained.train(not self._tuned)
        return [self._step().item() for _ in range(steps)]

    def forward(self, steps: int) -> float:
        """Seconds that some forward passes take, in eval mode."""
        return seconds(self._features, steps)

    def train(self, steps: int) -> float:
        """Seconds that some steps of training take."""
        return seconds(self._step, steps)

    def _features(self) -> torch.Tensor:
        with torch.inference_mode():
            return self._forward(self.inputs)

    def _step(self) -> torch.Tensor:
        self._optimizer.zero_grad()
        loss = self._loss(self.inputs, self.labels)
        loss.backward()
        self._optimizer.step()
        return loss.detach()


if __name__ == "__main__":
    _, _network, _variant, _inputs = sys.argv
    with np.load(_inputs) as _given:
        _runs = Runs(_network, VARIANTS[_variant], _given)
    serve(_runs)
