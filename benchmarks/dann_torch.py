"""Digits DANN written plainly in PyTorch: the opponent of ``dann_step.py``. Imports no JAX.

python benchmarks/dann_torch.py DATA.npz VARIANT

takes the first step of training on data that ``dann_step.py`` wrote, and prints its loss.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Task(NamedTuple):
    """What is trained on, and how.

    Attributes:
      source: uint8 images [N, H, W, 1].
      labels: [N].
      target: uint8 images [M, H, W, 1].
      settings: ``classes``, ``mean``, ``std``, ``learning_rate``, ``momentum``,
        ``weight_decay``, ``strength`` and ``steps``, the length of the schedules.
    """

    source: np.ndarray
    labels: np.ndarray
    target: np.ndarray
    settings: dict[str, Any]


class Variant(NamedTuple):
    """A way of running the same program."""

    compiled: bool = False
    channels_last: bool = False
    cuda_graphs: bool = False


def variants(device: torch.device) -> dict[str, Variant]:
    """The ways worth trying on a device, by name."""
    named = {
        "torch eager": Variant(),
        "torch eager, channels-last": Variant(channels_last=True),
        "torch.compile": Variant(compiled=True),
        "torch.compile, channels-last": Variant(compiled=True, channels_last=True),
    }
    if device.type == "cuda":
        named["torch.compile, CUDA graphs"] = Variant(compiled=True, cuda_graphs=True)
        named["torch.compile, CUDA graphs, channels-last"] = Variant(True, True, True)
    return named


def best_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class ReverseGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by ``-strength``."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
        """Returns the features."""
        ctx.save_for_backward(strength)
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Turns the gradient round."""
        return -ctx.saved_tensors[0] * gradient, None


class Network(nn.Module):
    """The network of ``jtl.models.digits_convnet``, its head and DANN's discriminator."""

    def __init__(self, classes: int, size: int, *, width: int = 32, hidden: int = 1024) -> None:
        super().__init__()
        features = 4 * width
        self.backbone = nn.Sequential(
            nn.Conv2d(1, width, 5, padding=2, bias=False),
            nn.MaxPool2d(2),
            nn.GroupNorm(4, width, eps=1e-6),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.GroupNorm(4, 2 * width, eps=1e-6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear((size // 4) ** 2 * 2 * width, features, bias=False),
            nn.LayerNorm(features, eps=1e-6),
            nn.ReLU(),
        )
        self.head = nn.Linear(features, classes)
        self.discriminator = nn.Sequential(
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(
        self, images: torch.Tensor, labels: torch.Tensor, strength: torch.Tensor
    ) -> torch.Tensor:
        """DANN's loss of a batch: normalised source images, then as many of the target."""
        source = len(labels)
        features = self.backbone(images)
        task = functional.cross_entropy(self.head(features[:source]), labels)
        domain = self.discriminator(ReverseGradient.apply(features, strength))[:, 0]
        return (
            task
            + (
                functional.softplus(-domain[:source]).mean()
                + functional.softplus(domain[source:]).mean()
            )
            / 2
        )


class Training:
    """A run: the network, its optimizer and the data, on one device."""

    def __init__(self, task: Task, variant: Variant, device: torch.device) -> None:
        self.settings = settings = task.settings
        self.device = device
        layout = torch.channels_last if variant.channels_last else torch.contiguous_format
        self.network = Network(settings["classes"], task.source.shape[1])
        self.network.to(device, memory_format=layout)
        self.layout = layout
        # 28x28 images of one channel: moving the axis changes no byte.
        self.source, self.target = (
            torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)
            for images in (task.source, task.target)
        )
        self.labels = torch.from_numpy(task.labels).long().to(device)
        mode = "reduce-overhead" if variant.cuda_graphs else None
        self.loss = torch.compile(self.network, mode=mode) if variant.compiled else self.network
        self.optimizer = torch.optim.SGD(
            [
                {"params": [p for p in self.network.parameters() if p.ndim > 1]},
                {
                    "params": [p for p in self.network.parameters() if p.ndim == 1],
                    "weight_decay": 0,
                },
            ],
            lr=settings["learning_rate"],
            momentum=settings["momentum"],
            weight_decay=settings["weight_decay"],
            nesterov=True,
            fused=True,
        )

    def advance(self, start: int, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Trains on the examples at [steps, batch] positions; returns the loss of every step."""
        sources, targets = (
            torch.from_numpy(positions).to(self.device) for positions in (sources, targets)
        )
        losses = [
            self._step((start + index) / self.settings["steps"], source, target)
            for index, (source, target) in enumerate(zip(sources, targets, strict=True))
        ]
        values = torch.stack(losses).cpu().numpy()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return values

    def _step(self, progress: float, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings["learning_rate"] * (1 + 10 * progress) ** -0.75
        strength = settings["strength"] * np.tanh(5 * progress)
        images = torch.cat([self.source[source], self.target[target]])
        images = (images.to(memory_format=self.layout).float() - settings["mean"]) / settings["std"]
        self.optimizer.zero_grad()
        loss = self.loss(
            images, self.labels[source], torch.tensor(strength, dtype=torch.float32).to(self.device)
        )
        loss.backward()
        self.optimizer.step()
        # A copy: CUDA graphs write the next loss to the same place.
        return loss.detach().clone()

    def copy_parameters(self, params: dict[str, Any]) -> None:
        """Takes over jtl's parameters, given as nested dictionaries of NumPy arrays."""
        with torch.no_grad():
            for module, layer in zip(self._modules(), layers(params), strict=True):
                for parameter, value in zip(module.parameters(), layer, strict=True):
                    parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))

    def layers(self) -> Iterator[list[np.ndarray]]:
        """The weight and bias of every layer in order."""
        for module in self._modules():
            yield [parameter.detach().cpu().numpy() for parameter in module.parameters()]

    def _modules(self) -> list[nn.Module]:
        network = self.network
        modules = [*network.backbone, network.head, *network.discriminator]
        return [module for module in modules if list(module.parameters())]


def layers(params: dict[str, Any]) -> Iterator[list[np.ndarray]]:
    """The weight and bias of every layer of jtl's in order, in PyTorch's axes."""
    backbone = params["backbone"]
    for stage in (backbone["stage1"], backbone["stage2"]):
        yield [stage["conv"]["kernel"].transpose(3, 2, 0, 1)]
        yield [stage["norm"]["scale"], stage["norm"]["bias"]]
    channels = backbone["stage2"]["norm"]["scale"].size
    dense = backbone["dense"]["dense"]["kernel"]
    # jtl flattens [rows, columns, channels], PyTorch [channels, rows, columns].
    yield [dense.reshape(-1, channels, dense.shape[1]).transpose(2, 1, 0).reshape(len(dense.T), -1)]
    yield [backbone["dense"]["norm"]["scale"], backbone["dense"]["norm"]["bias"]]
    discriminator = params["discriminator"]
    for part in (
        params["head"]["dense"],
        *(discriminator[n] for n in ("first", "second", "output")),
    ):
        yield [part["kernel"].T, part["bias"]]


def _first_step(file: Path, name: str) -> None:
    with np.load(file) as arrays:
        task = Task(
            arrays["source"],
            arrays["labels"],
            arrays["target"],
            json.loads(str(arrays["settings"])),
        )
        sources, targets = arrays["sources"], arrays["targets"]
    device = best_device()
    training = Training(task, variants(device)[name], device)
    print(f"loss {training.advance(0, sources, targets)[0]}", flush=True)


if __name__ == "__main__":
    _first_step(Path(sys.argv[1]), sys.argv[2])
