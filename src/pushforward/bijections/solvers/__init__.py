"""Numerical inverses with implicit gradients, one file a method. Tolerances are in units of the dtype's rounding.

Where a method does not converge, the result is NaN: nothing here returns a wrong value in silence.

Optimistix and Lineax are not used. `make solvers` compares: Optimistix's Newton method loses a quarter of the roots of
an increasing function with a plateau, and the time for a triangular fixed point is 1.4 to 15 times ours. Only its plain
fixed-point iteration is faster, on contractions that are cheap and contract far more than their bound says; it has no
safeguard where they do not.
"""

# Sweeps end when no coordinate moves by more than this many roundings.
ROUNDINGS = 4
