"""Conditional domain-adversarial training (CDAN, CDAN+E): Long et al., NeurIPS 2018,
arXiv 1705.10667.
"""

import jax

from jtl import losses, schedules
from jtl.models.heads import discriminator
from jtl.types import Array, Method, Params, Phase, Scope, Source, Target, Terms


def cdan(
    *,
    features: int,
    classes: int,
    width: int = 1024,
    entropy: bool = False,
    detach: bool = False,
    widest: int = 4096,
    projections: int = 1024,
) -> Method:
    """DANN whose discriminator reads features and predictions together, as their outer product.

    All parameters minimise the task loss; the discriminator minimises the domain loss, and features
    and predictions maximise it. Hyper-parameter ``strength``: the factor of the reversed gradient
    at the end of training; it ramps up from 0 as in the paper. No gradient passes through the
    weights of CDAN+E.

    Args:
      features: width of the head's input.
      classes: width of its output.
      width: width of the discriminator's two hidden layers.
      entropy: whether certain predictions count more in the domain loss (CDAN+E).
      detach: whether the features alone maximise the domain loss. So it is in the authors' PyTorch
        code and what follows it, not in the paper. The discriminator then knows the source by the
        confidence of its predictions, which nothing hides: ``docs/methods.md``.
      widest: a wider outer product is projected by two random matrices, which the memory keeps.
      projections: the width it is projected to; 1024 in the authors' code.
    """
    randomised = features * classes > widest

    def remember(params: Params, key: jax.Array) -> Params:
        del params
        if not randomised:
            return {}
        of_features, of_predictions = jax.random.split(key)
        return {
            "of_features": jax.random.normal(of_features, (features, projections)),
            "of_predictions": jax.random.normal(of_predictions, (classes, projections)),
        }

    def joint(domain: Source | Target, scope: Scope) -> Array:
        predictions = jax.nn.softmax(domain.logits)
        if detach:
            predictions = jax.lax.stop_gradient(predictions)
        if not randomised:
            return losses.multilinear_map(domain.features, predictions)
        matrices = (scope.memory["of_features"], scope.memory["of_predictions"])
        return losses.randomized_multilinear_map(domain.features, predictions, matrices)

    def objective(source: Source, target: Target, scope: Scope) -> tuple[Array, Terms]:
        strength = scope.hyper["strength"] * schedules.adversarial_strength(scope.progress)

        def domain_logits(domain: Source | Target) -> Array:
            return scope.call(
                "discriminator", losses.reverse_gradient(joint(domain, scope), strength)
            )

        task = losses.cross_entropy(source.logits, source.labels).mean()
        domain = losses.domain_adversarial(
            domain_logits(source),
            domain_logits(target),
            source_weights=losses.entropy_weights(source.logits) if entropy else None,
            target_weights=losses.entropy_weights(target.logits) if entropy else None,
        )
        return task + domain, {"task": task, "domain": domain}

    inputs = projections if randomised else features * classes
    return Method(
        (Phase(objective),),
        networks={"discriminator": discriminator(inputs, width)},
        remember=remember,
        hyper={"strength": 1.0},
    )
