"""What a model's outputs are worth, how sure that is, and whether another is better. NumPy only.

Each takes arrays and returns numbers; what it cannot score raises
:class:`jtl.errors.UserError`.
"""

from jtl.metrics.checks import check
from jtl.metrics.classification import (
    BINS,
    METRICS,
    SMALLEST,
    Reliability,
    accuracy,
    auroc,
    balanced_accuracy,
    brier,
    confusion_matrix,
    ece,
    log_loss,
    macro_f1,
    per_class_accuracy,
    reliability,
)
from jtl.metrics.comparisons import (
    Gain,
    McNemar,
    PairedTest,
    mcnemar,
    paired_test,
    transfer_gain,
)
from jtl.metrics.intervals import Interval, bootstrap, summarize
from jtl.metrics.linear import a_distance, domain_log_ratio

__all__ = [
    "BINS",
    "METRICS",
    "SMALLEST",
    "Gain",
    "Interval",
    "McNemar",
    "PairedTest",
    "Reliability",
    "a_distance",
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "bootstrap",
    "brier",
    "check",
    "confusion_matrix",
    "domain_log_ratio",
    "ece",
    "log_loss",
    "macro_f1",
    "mcnemar",
    "paired_test",
    "per_class_accuracy",
    "reliability",
    "summarize",
    "transfer_gain",
]
