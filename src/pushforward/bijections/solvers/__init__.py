"""Numerical inverses with implicit gradients, one file for each method. Tolerances are multiples of machine epsilon.

If a method does not converge, the result is NaN, never a wrong value.

Optimistix and Lineax are not used. `make solvers` compares: Optimistix's Newton method loses a quarter of the roots of
an increasing function with a plateau, and a triangular fixed point takes it 1.4 to 15 times as long. Its plain
fixed-point iteration is faster only on contractions that are cheap and much stronger than their bound says.
"""

# Iterations end when no coordinate changes by more than this many times machine epsilon.
ROUNDINGS = 4
