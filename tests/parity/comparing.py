"""One network in PyTorch and in jtl: the same values, the same outputs, the same gradients."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jtl.models.chain import Blocks, chain
from jtl.models.weights import Rule, import_weights

TOLERANCE = 2e-6
"""Of the largest difference, relative to the largest value."""


def randomised(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The module in eval mode, all that a file has of it drawn: 0 or 1 would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not tensor.is_floating_point():
            continue
        with torch.no_grad():
            if "running_var" in name:
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif tensor.ndim > 1:
                spread = (1.0 / max(tensor[0].numel(), 1)) ** 0.5
                tensor.normal_(0.0, min(spread, 0.5), generator=generator)
            else:
                mean = 0.7 if name.endswith("weight") else 0.0
                tensor.normal_(mean, 0.3, generator=generator)
    # What its authors hold fixed has a gradient too, to be compared.
    return module.eval().requires_grad_(requires_grad=True)


def state(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Its tensors by name, as a file has them."""
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}


def relative(found: Any, wanted: np.ndarray) -> float:
    """The largest difference over the largest value."""
    return float(np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max())


def assert_same(
    module: torch.nn.Module,
    blocks: Blocks,
    table: Sequence[Rule],
    inputs: np.ndarray,
    run: Callable[[torch.nn.Module, np.ndarray], torch.Tensor],
) -> None:
    """Outputs and the gradients of all parameters agree.

    Args:
      module: the original.
      blocks: jtl's.
      table: where the original's tensors go.
      inputs: as jtl takes them.
      run: the original's features of these inputs.
    """
    model = chain(blocks)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params, stats = import_weights(table, state(module), *shapes)
    upstream = np.random.default_rng(0).normal(size=1000)

    @jax.jit
    def both(params: Any) -> tuple[jax.Array, jax.Array]:
        features = model.apply(params, stats, jnp.asarray(inputs), train=False, rng=None)[0]
        weights = jnp.resize(jnp.asarray(upstream, jnp.float32), features.shape)
        return (features * weights).sum(), features

    (_, features), gradients = jax.value_and_grad(both, has_aux=True)(params)
    theirs = run(module, inputs)
    assert relative(features, theirs.detach().numpy()) < TOLERANCE
    (theirs * torch.tensor(np.resize(upstream, theirs.shape), dtype=torch.float32)).sum().backward()
    wanted, _ = import_weights(table, _gradients(module), *shapes)
    assert_gradients(gradients, wanted)


def _gradients(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """By the names of the tensors; what has none (statistics) stays as it is."""
    found = state(module)
    for name, parameter in module.named_parameters():
        grad = parameter.grad
        found[name] = np.zeros(parameter.shape, np.float32) if grad is None else grad.numpy()
    return found


def assert_gradients(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Each leaf's agree, relative to the largest of its block."""
    for block, leaves in wanted.items():
        largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(leaves))
        for path, leaf in jax.tree.leaves_with_path(leaves):
            got = found[block]
            for key in path:
                got = got[key.key]
            gap = float(np.abs(np.asarray(got) - leaf).max() / largest)
            assert gap < 1e-4, f"{block}{jax.tree_util.keystr(path)}: {gap:.1e}"
