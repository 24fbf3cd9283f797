"""Memory that is kept from step to step: training with it and without, in turns.

python benchmarks/allocator.py [--networks NAME ...] [--rounds N] [--steps N]

On a CPU jtl lets glibc keep a step's scratch space for the next one
(``jtl.devices.runtime.keep_freed_memory``). Here two processes train the same network, on images of
noise; one of them leaves glibc as it is. Seconds of the cores and pages that the system maps are
said too: they hang less on what else a machine does.
"""

import argparse
import resource
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from turns import Peer, processor, quartiles, serve

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

    def train(self, steps: int) -> list[float]:
        """Of a step: seconds, seconds of the cores, and pages that the system mapped."""
        self._step()  # as in turns.seconds
        before = _used()
        for _ in range(steps):
            self._step()
        return (np.subtract(_used(), before) / steps).tolist()

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


def _used() -> tuple[float, float, int]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime, used.ru_minflt


def main() -> None:
    """Lets both take turns with each network, and prints a row for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--steps", type=int, default=3, help="in a turn")
    options = parser.parse_args()
    print(f"{processor()}; median (quartiles) of {options.rounds} rounds.\n")
    print("| | | seconds a step | of the cores | pages mapped | faster by |")
    print("|---|---|---|---|---|---|", flush=True)
    for network in options.networks:
        peers = [Peer([__file__, network, how]) for how in HOWS]
        turns = [
            [peer.ask("train", options.steps) for peer in peers] for _ in range(options.rounds)
        ]
        kept, given = np.swapaxes(turns, 0, 1)
        low, middle, high = quartiles((given[:, 0] / kept[:, 0]).tolist())
        for how, of_turns in zip(HOWS, (kept, given), strict=True):
            taken, cores, mapped = np.median(of_turns, axis=0)
            said = "" if how == HOWS[0] else f"{middle:.2f}x ({low:.2f} to {high:.2f})"
            print(f"| {network} | {how} | {taken:.3f} | {cores:.3f} | {mapped:,.0f} | {said} |")
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
