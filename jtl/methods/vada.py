"""Virtual adversarial domain adaptation (VADA): Shu et al., ICLR 2018, arXiv 1802.08735."""

import jax
import jax.numpy as jnp

from jtl import losses
from jtl.models.heads import discriminator
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms

PROBE = 0.1
"""The step that the worst direction is found with, over the whole move: so in any units it is
short, and long enough for float32 to tell the predictions at its ends apart."""


def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """Task loss, domain loss, the target's entropy, and smoothness around both domains' inputs."""
    hyper = scope.hyper
    of_source, of_target = jax.random.split(scope.key)

    def domain_logits(features: Array) -> Array:
        return scope.call("discriminator", losses.reverse_gradient(features, hyper["strength"]))

    def roughness(inputs: Array, key: jax.Array) -> Array:
        return losses.virtual_adversarial(
            lambda moved: jnp.asarray(scope.forward(moved).logits),
            jnp.asarray(inputs, jnp.float32),
            key,
            epsilon=hyper["epsilon"],
            xi=PROBE * hyper["epsilon"],
        )

    terms = {
        "task": losses.cross_entropy(source.logits, source.labels).mean(),
        "domain": losses.domain_adversarial(
            domain_logits(source.features), domain_logits(target.features)
        ),
        "entropy": losses.entropy(target.logits).mean(),
        "source_roughness": roughness(source.inputs, of_source),
        "target_roughness": roughness(target.inputs, of_target),
    }
    value = terms["task"] + terms["domain"] + hyper["source_smoothness"] * terms["source_roughness"]
    clusters = terms["entropy"] + terms["target_roughness"]
    return value + hyper["target_smoothness"] * clusters, terms


def vada(*, features: int, width: int = 1024) -> Method:
    """DANN under the cluster assumption: boundaries keep away from target examples.

    The discriminator minimises the domain loss and the features maximise it; everything else is
    minimised by all. Hyper-parameters, as in the authors' code: ``strength``, the factor of the
    reversed gradient, 0.01 throughout; ``source_smoothness``, the weight of the virtual adversarial
    loss on the source, 1; ``target_smoothness``, that of the target's and of the entropy, 0.01;
    ``epsilon``, how far an input is moved, 3.5.

    ``epsilon`` is a length in the space of what training reads. That is a vector of stored features
    where the backbone is frozen, whose units are the backbone's. It is an image with pixels from 0
    to 255 where it is not: the paper's images go from -1 to 1, so its 3.5 is 446 there, for 32 x 32
    pixels of three colours. Leave ``model.dropout`` at 0, as each pass would drop out its own units
    and find that rough, and ``model.norm`` at "layer", as with the batch's statistics a move of one
    example is one of all.

    Deviations: the features maximise the discriminator's loss rather than minimise it with labels
    exchanged; the tested model is the last one, not its moving average.

    Args:
      features: width of the head's input.
      width: width of the discriminator's two hidden layers.
    """
    return Method(
        (Phase(objective),),
        networks={"discriminator": discriminator(features, width)},
        hyper={
            "strength": 0.01,
            "source_smoothness": 1.0,
            "target_smoothness": 0.01,
            "epsilon": 3.5,
        },
    )
