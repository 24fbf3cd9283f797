"""Batch spectral penalisation (BSP): Chen et al., ICML 2019, "Transferability vs.
Discriminability".
"""

import dataclasses

from jtl import losses
from jtl.errors import UserError, nearest
from jtl.methods.cdan import cdan
from jtl.methods.dann import dann
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def bsp(*, features: int, classes: int, base: str = "cdan", width: int = 1024) -> Method:
    """Adversarial training that is kept from moving few directions of the features far.

    The objective of the base method plus the largest squared singular value of each domain's
    features, which all parameters below the head minimise. Hyper-parameters: the base method's, and
    ``spectral``, the weight of the singular values: 1e-4, as in the authors' code.

    Args:
      features: width of the head's input.
      classes: width of its output.
      base: "dann" or "cdan" (with the entropy weights, as in the authors' code).
      width: width of the discriminator's two hidden layers.

    Raises:
      UserError: ``base`` is another method.
    """
    if base not in ("dann", "cdan"):
        raise UserError(f"method.base: no {base!r}; {nearest(base, ('dann', 'cdan'))}")
    adversarial = (
        dann(features=features, width=width)
        if base == "dann"
        else cdan(features=features, classes=classes, width=width, entropy=True)
    )
    (phase,) = adversarial.phases

    def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
        value, terms = phase.objective(source, target, scope)
        spectral = losses.batch_spectral_penalty(source.features)
        spectral += losses.batch_spectral_penalty(target.features)
        return value + scope.hyper["spectral"] * spectral, terms | {"spectral": spectral}

    return dataclasses.replace(
        adversarial, phases=(Phase(objective),), hyper={**adversarial.hyper, "spectral": 1e-4}
    )
