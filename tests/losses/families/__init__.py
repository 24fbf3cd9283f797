"""The losses by family: each loss again in float64 NumPy, and the inputs it is tested on.

Oracles are naive loops straight from the papers. ``at`` holds the arguments where whatever carries
no gradient is computed (bandwidths, weights, teachers); finite differences move the arguments and
leave ``at`` where it is.
"""
