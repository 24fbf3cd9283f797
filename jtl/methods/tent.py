"""Entropy minimisation by normalisation layers (Tent): Wang et al., ICLR 2021, arXiv 2006.10726."""

from jtl import losses
from jtl.types import Array, Method, Phase, Scope, Source, Target, Terms

NORMS = (r".*norm/(scale|bias)",)
"""The affine parameters of every normalisation layer."""


def objective(source: Source | None, target: Target, scope: Scope) -> tuple[Array, Terms]:
    """The mean entropy of the predictions on the target."""
    del source, scope
    entropy = losses.entropy(target.logits).mean()
    return entropy, {"entropy": entropy}


def tent() -> Method:
    """Makes predictions on the target certain by scaling and shifting what is normalised.

    Starts from a model trained on the source, and never reads the source. The scales and biases of
    normalisation layers minimise the entropy, those that ``partition`` lets train; nothing else
    does. Their batch norms normalise by the target's batch, and the running statistics become the
    target's.
    There is no strength to set; the paper trains with Adam, a learning rate of 0.001 and batches of
    128 (ImageNet: SGD, 0.00025 and 64).

    This is the offline form: many steps over the target's training examples, then the last model on
    the test examples, normalised by the running statistics. The paper's results are online: one
    pass over the test examples themselves, each batch predicted as it is adapted to, normalised by
    its own statistics. So an example here is predicted alone, but none that is tested was adapted
    to. Layer and group norms train as well; the paper has batch norms only. Leave ``model.dropout``
    at 0.
    """
    return Method((Phase(objective, trains=NORMS, reads=("target",)),))
