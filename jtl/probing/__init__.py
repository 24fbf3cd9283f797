"""Probes on given features: fits of every strength and fold together, as functions of arrays."""

from jtl.probing._checks import deal
from jtl.probing.logistic import LogisticPath, logistic_path

__all__ = ["LogisticPath", "deal", "logistic_path"]
