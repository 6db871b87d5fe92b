"""Numerical inverses with implicit gradients, one file for each method. Tolerances are multiples of machine epsilon.

If a method does not converge, the result is NaN, never a wrong value.
"""

# Iterations end when no coordinate changes by more than this many times machine epsilon.
ROUNDINGS = 4
