"""PyTorch modules as backbones: the same function, trained by jtl."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import timm
import torch
from comparing import assert_gradients, randomised, relative
from torch import nn

import jtl
from jtl import losses
from jtl.errors import UserError
from jtl.models import heads
from jtl.models.chain import chain, classifier
from jtl.partition import walk
from jtl.types import Preprocess

IMAGES = Preprocess(32, 3, (120.0,) * 3, (60.0,) * 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


class Small(nn.Module):
    """Batch norm, dropout, a shared parameter and a buffer that is no number with a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.drop, self.last = nn.Dropout(0.5), nn.Linear(8, 8)
        self.register_buffer("places", torch.arange(7, -1, -1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.drop(self.body(x).mean((2, 3))))[:, self.places]


def normalised(pixels: np.ndarray) -> torch.Tensor:
    return torch.tensor((pixels.transpose(0, 3, 1, 2).astype(np.float32) - 120) / 60)


@pytest.mark.parametrize("name", ["small", "mobilenetv2_050", "vit_tiny_patch16_224"])
def test_it_is_the_same_function_with_the_same_gradients(name: str) -> None:
    settings: dict[str, Any] = {"img_size": 32, "depth": 2} if name.startswith("vit") else {}
    module = Small() if name == "small" else timm.create_model(name, num_classes=0, **settings)
    module = randomised(module)
    found = jtl.from_torch(module.train(), normalised(PIXELS).numpy(), wanted=IMAGES)
    model = chain(found.blocks())
    assert found.weights is not None and module.training

    @jax.jit
    def run(params: Any, stats: Any) -> Any:
        features, moved = model.apply(
            params, stats, jnp.asarray(PIXELS), train=True, rng=jax.random.key(0)
        )
        return features.sum(), (features, moved)

    (_, (features, moved)), gradients = jax.value_and_grad(run, has_aux=True)(*found.weights)
    theirs = module.eval()(normalised(PIXELS))
    assert features.shape == (4, found.width)
    assert relative(features, theirs.detach().numpy()) < 1e-5
    jax.tree.map(np.testing.assert_array_equal, moved, found.weights[1])
    theirs.sum().backward()
    wanted = {
        key: np.zeros(value.shape) if value.grad is None else value.grad.numpy()
        for key, value in module.named_parameters()
    }
    got = {path.replace("/", "."): leaf for path, leaf in walk(gradients["module"])}
    assert_gradients({"module": got}, {"module": wanted})


def test_jtl_trains_it() -> None:
    found = jtl.from_torch(Small(), normalised(PIXELS).numpy(), wanted=IMAGES)
    blocks = (*found.blocks(), ("head", heads.head(found.width, 2)))
    params, stats = chain(blocks).init(jax.random.key(0))
    labels, optimizer = jnp.array([0, 1, 0, 1]), optax.sgd(0.1, momentum=0.9)

    @jax.jit
    def step(params: Any, memory: Any) -> tuple[Any, Any, jax.Array]:
        def loss(params: Any) -> jax.Array:
            outputs, _ = classifier(blocks).apply(
                params, stats, jnp.asarray(PIXELS), train=True, rng=jax.random.key(0)
            )
            return losses.cross_entropy(outputs.logits, labels).mean()

        value, gradients = jax.value_and_grad(loss)(params)
        updates, memory = optimizer.update(gradients, memory)
        return optax.apply_updates(params, updates), memory, value

    memory, values = optimizer.init(params), []
    for _ in range(60):
        params, memory, value = step(params, memory)
        values.append(float(value))
    assert values[-1] < 0.5 * values[0]


def test_what_returns_no_features_is_refused() -> None:
    with pytest.raises(UserError, match=r"from_torch: map returns \(4, 8, 15, 15\), not features"):
        jtl.from_torch(Small().body, normalised(PIXELS).numpy(), name="map")
