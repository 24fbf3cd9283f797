"""How well a pretrained model suits a task, from one pass over labelled examples. Higher is better.

Scores for ranking backbones before any is trained: of the source classes it predicts (LEEP, NCE)
or of its features (H-score, LogME, TransRate, GBC). They compare models on one data set; their
values say little across data sets. All compute in float64. NumPy only.
"""

from jtl.transferability.evidence import logme
from jtl.transferability.features import gbc, h_score, transrate
from jtl.transferability.predictions import leep, nce

__all__ = ["gbc", "h_score", "leep", "logme", "nce", "transrate"]
