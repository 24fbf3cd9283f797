"""Probes on given features: fits of every strength and fold together, as functions of arrays."""

from jtl.probing._checks import deal
from jtl.probing._lazy import Features, LazyRows
from jtl.probing._plan import Plan, plan_ridge
from jtl.probing._rows import total_variance
from jtl.probing.logistic import LogisticPath, logistic_path
from jtl.probing.minibatch import MinibatchGrid, minibatch_grid
from jtl.probing.nearest import Neighbours, neighbours, votes
from jtl.probing.ridge import RidgePath, ridge_path

__all__ = [
    "Features",
    "LazyRows",
    "LogisticPath",
    "MinibatchGrid",
    "Neighbours",
    "Plan",
    "RidgePath",
    "deal",
    "logistic_path",
    "minibatch_grid",
    "neighbours",
    "plan_ridge",
    "ridge_path",
    "total_variance",
    "votes",
]
