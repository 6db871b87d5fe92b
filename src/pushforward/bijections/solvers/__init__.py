"""Numerical inverses with implicit gradients, one file a method. Tolerances are in units of the dtype's rounding.

Where a method does not converge, the result is NaN: nothing here returns a wrong value in silence.
"""

# Sweeps end when no coordinate moves by more than this many roundings.
ROUNDINGS = 4
