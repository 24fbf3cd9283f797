"""Learning without forgetting (LwF): Li and Hoiem, ECCV 2016, arXiv 1606.09282."""

import jax

from jtl import losses
from jtl.models import heads
from jtl.types import Array, Method, Params, Phase, Scope, Source, Target, Terms


def lwf(*, pretrained_head: Params) -> Method:
    """Learns the new task so that the old head goes on saying what it said of the new images.

    All parameters, the old head's too, minimise the task loss plus the distillation of what the
    pretrained model says of the same images. Hyper-parameters ``strength``, the weight of the
    distillation, and ``temperature``, by which its predictions are softened: 1 and 2, as in the
    paper. The old head trains under ``pretrained_head/.*``.

    The paper first trains the new head alone: an entry of ``unfreeze`` ends that stage.

    Deviations: the distillation is multiplied by the squared temperature, so that its gradient does
    not depend on the temperature (Hinton et al., 2015); the pretrained model sees each image as it
    is augmented for the step, and its batch norms are run as those of the trained one.

    Args:
      pretrained_head: on the features.
    """
    head = heads.pretrained(pretrained_head)

    def objective(source: Source, target: Target | None, scope: Scope) -> tuple[Array, Terms]:
        del target
        start = scope.forward(source.inputs, scope.memory["start"])
        said, _ = head.apply(scope.memory["head"], {}, start.features, train=False, rng=None)
        says = scope.call("pretrained_head", source.features)
        task = losses.cross_entropy(source.logits, source.labels).mean()
        distance = losses.distillation(says, said, temperature=scope.hyper["temperature"]).mean()
        value = task + scope.hyper["strength"] * distance
        return value, {"task": task, "distillation": distance}

    def remember(params: Params, key: jax.Array) -> Params:
        del key
        return {"start": params, "head": pretrained_head}

    return Method(
        (Phase(objective, reads=("source",)),),
        networks={"pretrained_head": head},
        remember=remember,
        hyper={"strength": 1.0, "temperature": 2.0},
    )
