"""Supervised training on labelled examples.

With a frozen backbone it is a linear probe, with some of it trainable partial fine-tuning, with all
of it full fine-tuning; in a domain-adaptation study it is the source-only baseline. The target is
never forwarded, since in training mode that alone would adapt batch-norm statistics.
"""

from jtl import losses
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms


def task(source: Source, target: Target | None, scope: Scope) -> tuple[Array, Terms]:
    """Cross-entropy on the labelled domain."""
    del target
    loss = losses.cross_entropy(
        source.logits, source.labels, label_smoothing=scope.hyper["label_smoothing"]
    )
    return loss.mean(), {}


def supervised() -> Method:
    """Minimises the task loss."""
    return Method((Phase(task, reads=("source",)),), hyper={"label_smoothing": 0.0})
