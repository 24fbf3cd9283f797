"""DANN on features written plainly in PyTorch: the opponent of ``study.py``. Imports no JAX.

python benchmarks/study_torch.py FOLDER VARIANT

waits on its input for what ``study.py`` asks of it.
"""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from turns import seconds, serve


class Network(nn.Module):
    """Bottleneck, head and discriminator, of the sizes of jtl's parameters."""

    def __init__(self, params: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        inputs, width = params["bottleneck/dense/kernel"].shape
        hidden = params["discriminator/second/kernel"].shape[1]
        self.dense = nn.Linear(inputs, width, bias=False)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, params["head/dense/kernel"].shape[1])
        self.discriminator = nn.Sequential(
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )
        layers = {
            "bottleneck/dense": self.dense,
            "bottleneck/norm": self.norm,
            "head/dense": self.head,
            "discriminator/first": self.discriminator[0],
            "discriminator/second": self.discriminator[2],
            "discriminator/output": self.discriminator[4],
        }
        for path, value in params.items():
            layer, name = path.rsplit("/", 1)
            parameter = layers[layer].bias if name == "bias" else layers[layer].weight
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(value.T)))

    def forward(
        self, inputs: torch.Tensor, labels: torch.Tensor, strength: torch.Tensor
    ) -> torch.Tensor:
        """DANN's loss of a batch: source examples, then as many of the target."""
        source = len(labels)
        features = functional.relu(self.norm(self.dense(inputs)))
        task = functional.cross_entropy(self.head(features[:source]), labels)
        # The value of the features, and their gradient times ``-strength``.
        reverse = features.detach() * (1 + strength) - strength * features
        domain = self.discriminator(reverse)[:, 0]
        apart = functional.softplus(-domain[:source]).mean()
        return task + (apart + functional.softplus(domain[source:]).mean()) / 2


class Runs:
    """The runs of a study, one after another.

    Args:
      folder: what ``study_jtl.py`` wrote.
      variant: out of ``VARIANTS`` in ``study.py``.
    """

    def __init__(self, folder: Path, variant: str) -> None:
        with np.load(folder / "study.npz") as arrays:
            arrays = dict(arrays)
        self._settings = json.loads((folder / "study.json").read_text())
        self._source, self._labels, self._target = (
            torch.from_numpy(arrays.pop(name)) for name in ("source", "labels", "target")
        )
        self._labels = self._labels.long()
        self._arrays, self._compiled = arrays, variant == "torch.compile"
        if variant.endswith("one thread"):
            torch.set_num_threads(1)

    def losses(self, steps: int) -> list[list[float]]:
        """Of the first steps of every run, on the examples that jtl takes."""
        found = []
        for number in range(len(self._settings)):
            chosen = (torch.from_numpy(self._given(number).pop(n)) for n in ("sources", "targets"))
            found.append(self._trained(number, *(part[:steps].long() for part in chosen)))
        return found

    def train(self, steps: int) -> float:
        """Seconds that some steps of all runs take, one run after another."""

        def all_of_them() -> None:
            for number, settings in enumerate(self._settings):
                size = steps, settings["batch_size"]
                sets = self._source, self._target
                self._trained(number, *(torch.randint(len(part), size) for part in sets))

        return seconds(all_of_them, 1)

    def _given(self, number: int) -> dict[str, np.ndarray]:
        prefix = f"{number}/"
        return {
            name.removeprefix(prefix): value
            for name, value in self._arrays.items()
            if name.startswith(prefix)
        }

    def _trained(self, number: int, sources: torch.Tensor, targets: torch.Tensor) -> list[float]:
        settings, given = self._settings[number], self._given(number)
        params = {name: value for name, value in given.items() if "/" in name}
        network = Network(params)
        loss = torch.compile(network) if self._compiled else network
        matrices = [p for p in network.parameters() if p.ndim > 1]
        rest = [p for p in network.parameters() if p.ndim == 1]
        optimizer = torch.optim.SGD(
            [{"params": matrices}, {"params": rest, "weight_decay": 0}],
            lr=settings["learning_rate"],
            momentum=settings["momentum"],
            weight_decay=settings["weight_decay"],
            nesterov=True,
            fused=True,
        )
        losses = []
        for step, (source, target) in enumerate(zip(sources, targets, strict=True)):
            progress = step / settings["steps"]
            for group in optimizer.param_groups:
                group["lr"] = settings["learning_rate"] * (1 + 10 * progress) ** -0.75
            strength = torch.tensor(settings["strength"] * math.tanh(5 * progress))
            optimizer.zero_grad()
            inputs = torch.cat([self._source[source], self._target[target]])
            value = loss(inputs, self._labels[source], strength)
            value.backward()
            optimizer.step()
            losses.append(value.detach())
        return torch.stack(losses).tolist()


if __name__ == "__main__":
    _, _folder, _variant = sys.argv
    serve(Runs(Path(_folder), _variant))
