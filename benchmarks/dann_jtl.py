"""Digits DANN as jtl's runner trains it, without evaluation and checkpoints.

python benchmarks/dann_jtl.py

takes the first step of training, and prints its loss.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jtl import configuration
from jtl.data.batches import stretch_indices
from jtl.devices import runtime, sharding
from jtl.runs import prepare
from jtl.training import execution
from jtl.types import Batch, Labelled, Params, Preprocess, TrainState, Unlabelled

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "digits_dann.py"


class Training:
    """The run of the config, without evaluation and checkpoints."""

    def __init__(self) -> None:
        runtime.start()
        self.config, _ = configuration.load(str(CONFIG))
        self.run = run = prepare.prepare(self.config, Path())
        labelled, target = run.labelled, run.stored.target_train
        assert target is not None, f"{CONFIG} names a target"
        self.source = Labelled(np.asarray(labelled.inputs), labelled.known_labels())
        self.target = Unlabelled(np.asarray(target.inputs))
        self.devices = sharding.mesh()
        training = run.stages[0].training
        whole = sharding.replicated(self.devices)
        init = jax.jit(training.init, out_shardings=whole)
        self.state: TrainState = init(self.config.seed, run.hyper, run.net.start())
        self._run = execution.from_memory(
            training.step,
            Batch(self.source, self.target),
            self.choose,
            run.hyper,
            self.devices,
        )

    def choose(self, start: int, count: int) -> execution.Choice:
        """The positions of the examples of a stretch of steps."""
        sizes = {"source": len(self.source.inputs), "target": len(self.target.inputs)}
        seed, batch = self.config.seed, self.config.batch_size
        return execution.Choice(
            *(stretch_indices(seed, start, count, n, batch, name) for name, n in sizes.items())
        )

    def advance(self, start: int, count: int) -> np.ndarray:
        """Trains; returns the loss of every step."""
        losses = []
        for first in range(start, start + count, execution.LONGEST_STRETCH):
            length = min(execution.LONGEST_STRETCH, start + count - first)
            self.state, metrics = self._run(self.state, first, length)
            losses.append(np.asarray(metrics["loss"]))
        jax.block_until_ready(self.state)
        return np.concatenate(losses)

    def go_to(self, step: int) -> None:
        """Takes the current state for that of another step; schedules follow."""
        where = sharding.replicated(self.devices)
        self.state = self.state._replace(step=jax.device_put(jnp.int32(step), where))

    def params(self) -> Params:
        """The current parameters, in this machine's memory."""
        return jax.tree.map(np.array, self.state.params)

    def settings(self) -> dict[str, Any]:
        """What PyTorch must know of the config."""
        optimizer, wanted = self.config.optimizer, self.run.net.backbone.wanted
        assert isinstance(wanted, Preprocess), f"{CONFIG} trains on images"
        return {
            "classes": len(self.run.domains.source_train.classes),
            "mean": wanted.mean[0],
            "std": wanted.std[0],
            "learning_rate": optimizer.learning_rate,
            "momentum": optimizer.momentum,
            "weight_decay": optimizer.weight_decay,
            "strength": self.config.method.strength,
            "steps": self.config.steps,
        }

    def task(self) -> dict[str, Any]:
        """The fields of :class:`dann_torch.Task`."""
        return {
            "source": self.source.inputs,
            "labels": self.source.labels,
            "target": self.target.inputs,
            "settings": self.settings(),
        }


if __name__ == "__main__":
    print(f"loss {Training().advance(0, 1)[0]}", flush=True)
