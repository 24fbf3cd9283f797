"""Any PyTorch module as a backbone, through torchax, which runs its operations as jax's.

For networks that jtl does not have natively. PyTorch and torchax are an optional extra,
``jtl[torch]``.
"""

import copy
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jtl.errors import UserError
from jtl.models.backbone import Backbone
from jtl.models.chain import Blocks
from jtl.models.pixels import normalise
from jtl.types import Array, Model, Params, Preprocess, Stats, Train, Wanted

BLOCK = "module"
"""The one block of such a backbone, beside that of pixels."""


def from_torch(
    module: Any, example: Array, *, wanted: Wanted | None = None, name: str = "torch"
) -> Backbone:
    """The backbone that a PyTorch module is, with its weights to start from.

    It runs in eval mode, also in training: dropout drops nothing, and batch norms stay on their
    stored statistics, since under a compiled step neither would act as in PyTorch. Its parameters
    train, each at the path of its name: ``layer1.0.conv1.weight`` is
    ``module/layer1/0/conv1/weight``. The module itself is copied, and stays as it is.

    Args:
      module: a ``torch.nn.Module`` from one tensor to features [B, W].
      example: inputs as the module takes them, images [B, C, H, W]. Shape and type matter alone.
      wanted: what is asked of the inputs. With a :class:`jtl.types.Preprocess`, pixels
        [B, H, W, C] from 0 to 255 are normalised and brought to PyTorch's order of axes.
      name: for messages.

    Raises:
      UserError: PyTorch or torchax is not installed, or the module returns something else.
    """
    torch, torchax = _imported("torch"), _imported("torchax")
    module = copy.deepcopy(module).eval()
    with torch.no_grad():
        states, function = torchax.extract_jax(module)

    def run(states: Params, inputs: Array) -> Any:
        with jax.numpy_rank_promotion("allow"):  # PyTorch's operations broadcast so
            return function(states, (inputs,))

    trained = {key for key, _ in module.named_parameters()}
    params = {key: states[key] for key in states if key in trained}
    rest = {key: states[key] for key in states if key not in trained}
    stats = {key: value for key, value in rest.items() if jnp.issubdtype(value.dtype, jnp.floating)}
    # Counters and tables of positions are no statistics, and have no gradient.
    fixed = {key: value for key, value in rest.items() if key not in stats}
    images = isinstance(wanted, Preprocess)

    def init(key: jax.Array) -> tuple[Params, Stats]:
        del key
        return _nested(params), _nested(stats)

    def apply(
        params: Params, stats: Stats, inputs: Array, *, train: Train, rng: jax.Array | None
    ) -> tuple[Any, Stats]:
        del train, rng
        inputs = jnp.moveaxis(inputs, -1, 1) if images else jnp.asarray(inputs)
        return run(_flat(params) | _flat(stats) | fixed, inputs), stats

    width = _width(run, states, example, name)
    blocks: Blocks = ((BLOCK, Model(init, apply)),)
    if isinstance(wanted, Preprocess):
        blocks = (("pixels", normalise(wanted)), *blocks)
    weights = {BLOCK: _nested(params)}, {BLOCK: _nested(stats)} if stats else {}
    return Backbone(name, lambda axis_name=None: blocks, wanted, width, weights=weights)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"from_torch: {name} cannot be imported ({error}); install it: pip install 'jtl[torch]'"
        ) from error


def _width(run: Callable[..., Any], states: Params, example: Array, name: str) -> int:
    found = jax.eval_shape(run, states, jax.ShapeDtypeStruct(example.shape, example.dtype))
    if not isinstance(found, jax.ShapeDtypeStruct) or len(found.shape) != 2:
        what = getattr(found, "shape", type(found).__name__)
        raise UserError(
            f"from_torch: {name} returns {what}, not features [examples, width]; wrap it in a "
            "module that does"
        )
    return found.shape[1]


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, leaf in flat.items():
        *parents, last = name.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = leaf
    return nested


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in nested.items():
        flat |= (
            _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return flat
