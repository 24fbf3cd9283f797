"""What well-known implementations compute, in NumPy: their formulas, transcribed from their code.

Each function names the repository, the file and the commit that it was read in. None of their code
is here. ``tools/compare_losses.py`` prints them beside jtl's own values.
"""
