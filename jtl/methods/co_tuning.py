"""Co-Tuning: fine-tuning with the pretrained head. You et al., NeurIPS 2020, "Co-Tuning for
Transfer Learning".
"""

from collections.abc import Mapping

import jax
import numpy as np

from jtl import losses, relationship
from jtl.errors import UserError, nearest
from jtl.models import heads
from jtl.types import Array, Method, Params, Phase, Pretrained, Scope, Source, Target, Terms

FORMS = ("calibrated", "direct")


def objective(source: Source, target: Target | None, scope: Scope) -> tuple[Array, Terms]:
    """Task loss, and the pretrained head's on what each label means in its own classes."""
    del target
    task = losses.cross_entropy(source.logits, source.labels).mean()
    logits = scope.call("pretrained_head", source.features)
    old_task = losses.co_tuning(logits, source.labels, scope.hyper["relationship"]).mean()
    return task + scope.hyper["strength"] * old_task, {"task": task, "old_task": old_task}


def co_tuning(*, pretrained_head: Params, form: str = "calibrated") -> Method:
    """Keeps the pretrained head and teaches it too, in classes of its own.

    All parameters minimise the task loss plus the cross-entropy of the pretrained head with
    ``p(pretrained class | label)``, which :mod:`jtl.relationship` estimates before training from
    what that head says of the labelled examples. Hyper-parameter ``strength``, the weight of the
    second: 2.3, as in the authors' code. The pretrained head trains under ``pretrained_head/.*``,
    in the paper at the rate of the backbone.

    Deviations: the calibrated form holds out every second labelled example of a class, where the
    authors have a validation set; the predictions are those of the head as it is, where theirs are
    scaled by what calibrates it on ImageNet.

    Args:
      pretrained_head: on the features.
      form: of the estimate: "calibrated", by Bayes' rule from a calibrated classifier, as in the
        authors' code; "direct", the mean prediction on each label, which one example is enough for.

    Raises:
      UserError: there is no such form; or when measuring, if no class has two labels to calibrate.
    """
    if form not in FORMS:
        raise UserError(f"method.form: there is no {form!r}; {nearest(form, FORMS)}")
    head = heads.pretrained(pretrained_head)

    def measure(pretrained: Pretrained, labels: np.ndarray) -> Mapping[str, Array]:
        logits, _ = head.apply(pretrained_head, {}, pretrained.features, train=False, rng=None)
        said = np.asarray(jax.nn.softmax(logits))
        if form == "direct":
            return {"relationship": relationship.direct(said, labels)}
        held = np.array([np.sum(labels[:i] == label) % 2 for i, label in enumerate(labels)], bool)
        if not held.any():
            raise UserError(
                "method.form: calibrated holds out every second label of a class, and each class "
                "has one; raise data.per_class, or set direct"
            )
        table = relationship.calibrated(said[~held], labels[~held], said[held], labels[held])
        return {"relationship": table}

    return Method(
        (Phase(objective, reads=("source",)),),
        networks={"pretrained_head": head},
        hyper={"strength": 2.3},
        measure=measure,
    )
