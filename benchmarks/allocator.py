"""Memory that is kept from step to step: training with it and without, in turns.

python benchmarks/allocator.py [--networks NAME ...] [--rounds N] [--steps N]

On a CPU jtl lets glibc keep a step's scratch space for the next one
(``jtl.devices.runtime.keep_freed_memory``). Here two processes train the same network, on images of
noise; one of them leaves glibc as it is. How many pages the system maps in a step is said too.
"""

import argparse
import resource
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from turns import Peer, processor, quartiles, seconds, serve

from jtl import losses
from jtl.devices import runtime
from jtl.models import heads, zoo
from jtl.models.chain import chain, classifier
from jtl.types import Params, Preprocess, Stats

NETWORKS = ("resnet18", "efficientnet-lite0", "vit_small_patch16_224")
EXAMPLES, CLASSES = 16, 10
HOWS = ("kept", "as glibc has it")

State = tuple[Any, Stats, Any]


class Run:
    """A network in training.

    Args:
      network: as in ``random:NAME``.
    """

    def __init__(self, network: str) -> None:
        found = zoo.random(network)
        assert isinstance(found.wanted, Preprocess), f"{network} has no images"
        self._blocks = (*found.blocks(), ("head", heads.head(found.width, CLASSES)))
        params, stats = jax.jit(chain(self._blocks).init)(jax.random.key(0))
        self._optimizer = optax.sgd(0.001, momentum=0.9)
        self._state: State = params, stats, self._optimizer.init(params)
        side = found.wanted.size
        images = np.random.default_rng(0).uniform(0, 255, (EXAMPLES, side, side, 3))
        self._batch = jnp.asarray(images, jnp.float32), jnp.arange(EXAMPLES) % CLASSES
        self._compiled = jax.jit(self._advanced, donate_argnums=0)

    def train(self, steps: int) -> tuple[float, float]:
        """Seconds of a step, and pages that were mapped in it."""
        taken = seconds(self._step, steps)
        mapped = _mapped()
        self._step()
        return taken / steps, _mapped() - mapped

    def _step(self) -> None:
        self._state, loss = self._compiled(self._state, *self._batch)
        jax.block_until_ready(loss)

    def _advanced(
        self, state: State, images: jax.Array, labels: jax.Array
    ) -> tuple[State, jax.Array]:
        params, stats, memory = state

        def loss(params: Params) -> tuple[jax.Array, Stats]:
            outputs, moved = classifier(self._blocks).apply(
                params, stats, images, train=True, rng=jax.random.key(0)
            )
            return losses.cross_entropy(outputs.logits, labels).mean(), stats | moved

        (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, memory = self._optimizer.update(gradients, memory)
        return (optax.apply_updates(params, updates), stats, memory), value


def _mapped() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def main() -> None:
    """Lets both take turns with each network, and prints a row for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--steps", type=int, default=3, help="in a turn")
    options = parser.parse_args()
    print(f"{processor()}; median (quartiles) of {options.rounds} rounds.\n")
    print("| | seconds a step | pages mapped | as glibc has it | pages mapped | faster by |")
    print("|---|---|---|---|---|---|", flush=True)
    for network in options.networks:
        peers = [Peer([__file__, network, how]) for how in HOWS]
        turns = [
            [peer.ask("train", options.steps) for peer in peers] for _ in range(options.rounds)
        ]
        kept, given = np.swapaxes(turns, 0, 1)
        low, middle, high = quartiles((given[:, 0] / kept[:, 0]).tolist())
        sides = (f"{np.median(s[:, 0]):.3f} | {np.median(s[:, 1]):,.0f}" for s in (kept, given))
        print(f"| {network} | {' | '.join(sides)} | {middle:.2f}x ({low:.2f} to {high:.2f}) |")
        for peer in peers:
            peer.end()


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[2] in HOWS:
        runtime.keep_compiled_programs()
        if sys.argv[2] == HOWS[0]:
            runtime.keep_freed_memory()
        serve(Run(sys.argv[1]))
    else:
        main()
