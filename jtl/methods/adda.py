"""Adversarial discriminative domain adaptation (ADDA): Tzeng et al., CVPR 2017,
arXiv 1702.05464.
"""

import jax

from jtl import losses
from jtl.models.heads import discriminator
from jtl.types import Array, Method, Params, Phase, Scope, Source, Target, Terms


def fit_discriminator(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """The domain loss, with the source as its own encoder sees it."""
    kept = scope.forward(source.inputs, scope.memory["source_model"])
    domain = losses.domain_adversarial(
        scope.call("discriminator", kept.features), scope.call("discriminator", target.features)
    )
    return domain, {"domain": domain}


def adapt(source: Source | None, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """The discriminator's loss on the target under the label of the source."""
    del source
    logits = scope.call("discriminator", target.features)
    mapping = jax.nn.softplus(-logits).mean()
    return mapping, {"mapping": mapping}


def remember(params: Params, key: jax.Array) -> Params:
    """The model as it was trained on the source."""
    del key
    return {
        "source_model": {name: part for name, part in params.items() if name != "discriminator"}
    }


def adda(*, features: int, width: int = 500) -> Method:
    """Moves an encoder of the target to where a fixed encoder of the source puts its examples.

    Starts from a model trained on the source. Its encoder stays in the memory as the source's; the
    one in training becomes the target's. Two phases a step: the discriminator alone minimises the
    domain loss between the two (equation 9), then the target's encoder alone minimises the
    discriminator's loss with labels inverted. The head stays as it is, and no label is read. The
    paper has no strengths to set; its optimizer is Adam with a learning rate of 0.0002 and a first
    moment of 0.5.

    Reading the source also forwards it through the target's encoder; the outputs are not used, but
    where that has batch norm its running statistics become those of both domains.

    Deviation: the phases take turns, where the authors' code takes both gradients at once.

    Args:
      features: width of the head's input.
      width: width of the discriminator's two hidden layers; 500 in the paper's digits.
    """
    return Method(
        (
            Phase(fit_discriminator, trains=("discriminator/.*",)),
            Phase(adapt, trains=("(?!discriminator/|head/).*",), reads=("target",)),
        ),
        networks={"discriminator": discriminator(features, width)},
        remember=remember,
    )
