"""Frozen blocks as one compiled function, and a hash of what it computes."""

from functools import lru_cache
from hashlib import sha256
from typing import Any

import jax
import numpy as np

from jtl.models.chain import Blocks, chain
from jtl.types import Params, Stats


class Program:
    """Blocks as a compiled function; one object serves all who have these blocks."""

    def __init__(self, blocks: Blocks) -> None:
        model = chain(blocks)
        self._texts: dict[tuple[Any, ...], str] = {}

        @jax.jit
        def run(weights: tuple[Params, Stats], inputs: jax.Array) -> jax.Array:
            return model.apply(*weights, inputs, train=False, rng=None)[0]

        self.run = run

    @staticmethod
    @lru_cache(maxsize=32)
    def of(blocks: Blocks) -> "Program":
        """That of these blocks."""
        return Program(blocks)

    def text(self, weights: tuple[Params, Stats], inputs: np.ndarray) -> str:
        """A hash of the program, before it is compiled for a machine."""
        key = inputs.shape, inputs.dtype.str, jax.config.values["jax_default_matmul_precision"]
        if key not in self._texts:
            lowered = self.run.lower(weights, jax.ShapeDtypeStruct(inputs.shape, inputs.dtype))
            self._texts[key] = sha256(lowered.as_text().encode()).hexdigest()
        return self._texts[key]
