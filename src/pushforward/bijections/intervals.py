"""The intervals that are domains and codomains of bijections: their ends and their comparison."""

import numpy as np
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint


def bounds(constraint: Constraint) -> tuple[np.ndarray, np.ndarray]:
    """The ends of an interval that is a NumPyro constraint: real, positive, unit_interval, greater_than, interval ...

    The ends may be arrays: one interval for each coordinate.
    """
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    ends = [getattr(constraint, name, None) for name in ("lower_bound", "upper_bound")]
    if constraint.is_discrete or (constraint is not constraints.real and all(end is None for end in ends)):
        raise ValueError(f"a bijection's domain must be an interval of the real line, but got {constraint}.")
    lower, upper = (np.asarray(inf if end is None else end) for end, inf in zip(ends, (-np.inf, np.inf), strict=True))
    return lower, upper


def covers(domain: Constraint, codomain: Constraint) -> bool:
    """Whether an interval contains another. Open and closed ends count as equal, because ends have no mass."""
    (low, high), (inner_low, inner_high) = bounds(domain), bounds(codomain)
    return bool(np.all(low <= inner_low) and np.all(inner_high <= high))


def same_interval(one: Constraint, other: Constraint) -> bool:
    """Whether two intervals have the same ends; open and closed ends count as equal."""
    return covers(one, other) and covers(other, one)
