"""Whether two targets have the same unconstrained coordinates, so that a fit of one can be assessed on the other."""

import numpy as np
from jaxtyping import Array, Float

from pushforward.posterior.latent import latent_values
from pushforward.posterior.target import Target
from pushforward.printable import listed

# The relative difference of draws that single precision explains.
TOLERANCE = 1e-3
MAX_NAMES = 5


def check_same_coordinates(fitted: Target, target: Target, points: Float[Array | np.ndarray, "points dim"]) -> None:
    """Raise unless two targets map unconstrained vectors to the same draws.

    Otherwise a flow could be a good fit of the target although its saved draws have other supports.

    Args:
        fitted: the target of the fit; it may be without its density.
        target: the target to assess the fit on.
        points: some unconstrained vectors.

    Raises:
        TypeError: if the target is not a `Target`.
        ValueError: if the variables, their shapes or their supports are others; it names them.
    """
    if not isinstance(target, Target):
        raise TypeError(f"the target must be a pushforward.Target, but is a {type(target).__name__}.")
    names, others = fitted.coordinate_names(), target.coordinate_names()
    if names != others:
        only = {"the fit": set(names) - set(others), "the model": set(others) - set(names)}
        found = [f"only {where} has {listed(sorted(more), MAX_NAMES)}" for where, more in only.items() if more]
        raise ValueError(f"the fit is not of this model: {'; '.join(found) or 'their order differs'}.")
    u = np.asarray(points, float)
    draws, constrained = latent_values(fitted, u), latent_values(target, u)
    same = draws.shape == constrained.shape and np.allclose(draws, constrained, TOLERANCE, TOLERANCE, equal_nan=True)
    if not same:
        wrong = names
        if draws.shape == constrained.shape == u.shape:
            close: np.ndarray = np.isclose(draws, constrained, TOLERANCE, TOLERANCE, equal_nan=True)
            equal = np.atleast_1d(close.all(axis=0))
            wrong = [name for name, is_equal in zip(names, equal, strict=True) if not is_equal]
        raise ValueError(
            f"the fit is not of this model: the supports of {listed(wrong, MAX_NAMES)} differ, so its draws would have "
            "other values in the model; fit the model again."
        )
