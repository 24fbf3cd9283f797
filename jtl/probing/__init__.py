"""Probes on given features: fits of every strength and fold together, as functions of arrays."""

from jtl.probing._checks import deal
from jtl.probing.logistic import LogisticPath, logistic_path
from jtl.probing.nearest import Neighbours, neighbours
from jtl.probing.ridge import RidgePath, ridge_path

__all__ = [
    "LogisticPath",
    "Neighbours",
    "RidgePath",
    "deal",
    "logistic_path",
    "neighbours",
    "ridge_path",
]
