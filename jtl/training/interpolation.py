"""Between the start and the end of training (WiSE-FT): Wortsman et al., CVPR 2022,
arXiv 2109.01903.

A line in the space of parameters leads from the classifier that training started from to the one
that it ended with. Somewhere on it a model often does as well on the data it was trained on, and
better on others, than the end.
"""

import jax.numpy as jnp

from jtl import partition
from jtl.models import lora
from jtl.types import Params, Stats, TrainState


def between(
    start: tuple[Params, Stats], end: TrainState, fraction: float, *, alpha: float
) -> TrainState:
    """The state on the way from the start (0) to the end (1).

    ``(1 - fraction) * start + fraction * end``, parameter by parameter; the statistics of batch
    norms go the same way, which the paper, whose models have none, does not say. Low-rank leaves
    (:mod:`jtl.models.lora`) are merged first, so that it is the kernels that are interpolated.

    Args:
      start: parameters and statistics of the classifier, as
        :meth:`jtl.training.network.Network.start`.
      end: of the same classifier; the parameters of a method's networks in it are left out.
      fraction: of the way.
      alpha: of the low-rank leaves, if any.
    """

    def on_the_way(first: Params, last: Params) -> Params:
        ends = dict(partition.walk(last))
        return partition.map_paths(
            lambda path, leaf: (1 - fraction) * leaf + fraction * ends[path], first
        )

    params, stats = start
    trained = partition.merge(end.params, end.frozen)
    plain, plain_end = (lora.merged(tree, alpha=alpha) for tree in (params, trained))
    # What low-rank leaves there are add nothing, since their change is in the kernels now.
    silent = partition.map_paths(
        lambda path, leaf: jnp.zeros_like(leaf) if path.endswith(lora.B) else leaf, params
    )
    whole = partition.overwrite(silent, on_the_way(plain, plain_end))
    return end._replace(params=whole, frozen={}, stats=on_the_way(stats, end.stats))
