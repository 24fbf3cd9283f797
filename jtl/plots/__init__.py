"""The pictures of a report: each is a function from arrays to a matplotlib figure.

Figures are made without pyplot, so nothing is global and no window ever opens; matplotlib and
scikit-learn are imported when a picture is drawn, which keeps the start of a run short.
"""

from jtl.plots.choices import validator_choices
from jtl.plots.curves import (
    accuracy_by_shots,
    interpolation_curve,
    learning_curves,
    method_comparison,
)
from jtl.plots.examples import example_grid, worst_mistakes
from jtl.plots.features import Domains, feature_map
from jtl.plots.predictions import confusion_matrices, reliability_diagram
from jtl.plots.probes import Curve, layer_curves, probe_curves
from jtl.plots.ranking import scores_and_accuracy

__all__ = [
    "Curve",
    "Domains",
    "accuracy_by_shots",
    "confusion_matrices",
    "example_grid",
    "feature_map",
    "interpolation_curve",
    "layer_curves",
    "learning_curves",
    "method_comparison",
    "probe_curves",
    "reliability_diagram",
    "scores_and_accuracy",
    "validator_choices",
    "worst_mistakes",
]
