"""How much of a posterior lies where the transforms of its supports saturate?

A transform onto a support is a bijection of real numbers, but not of floating-point numbers: in float64 the logistic
function is 1 beyond 37, and the exponential function 0 below -745. Beyond, the density cannot be computed. The draws of
a fit need not be there, because the computed density may be zero there. So the deviations of draws from their median
are doubled: if a fraction s is then beyond, an exponential tail on one side has a fraction 2 s^2 beyond, and a lighter
tail less.
"""

import functools

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from pushforward.posterior.latent import has_supports, in_batches, in_parts, without_density
from pushforward.posterior.target import Draw, Target
from pushforward.posterior.thinning import thinned
from pushforward.training.compilation import jit_quick_compilation

MAX_DRAWS = 10_000
# The largest error, in unconstrained coordinates, of a transform followed by its inverse. An error of this size changes
# the distance from a bound by a tenth.
MAX_ERROR = 0.1


def saturated_mass(
    target: Target, draws: Float[np.ndarray, "draws dim"], weights: Float[np.ndarray, " draws"]
) -> float:
    """An estimate of the fraction of the posterior where transforms of the supports saturate.

    Args:
        target: the target.
        draws: draws of a fit, in unconstrained coordinates.
        weights: their weights, up to a constant.
    """
    if not has_supports(target):
        return 0.0
    draws, weights = thinned(draws, MAX_DRAWS), thinned(weights, MAX_DRAWS)
    center = np.median(draws, axis=0)
    total = weights.sum()
    beyond = np.concatenate([is_saturated(target, center + 2 * (part - center)) for part in in_parts(draws)])
    return float(2 * (beyond @ weights / total) ** 2) if total > 0 else 0.0


def is_saturated(target: Target, u: Float[np.ndarray, "points dim"]) -> Bool[np.ndarray, " points"]:
    """Whether the transform to latent values and back changes vectors.

    Args:
        target: the target.
        u: unconstrained vectors.
    """
    if not has_supports(target):
        return np.zeros(len(u), bool)
    target = without_density(target)
    back = in_batches(lambda part: _unconstrain(target, _constrain(target, part)), u)
    # NaN counts as saturated.
    with np.errstate(invalid="ignore"):
        return ~(np.abs(back - u).max(1) <= MAX_ERROR)


# Compiled separately, because XLA takes the logarithm of an exponential as the identity.
@functools.partial(jit_quick_compilation, level=1)
def _constrain(target: Target, u: Float[Array, "draws dim"]) -> Draw:
    return jax.vmap(target.constrain)(u)


@functools.partial(jit_quick_compilation, level=1)
def _unconstrain(target: Target, draws: Draw) -> Float[Array, "draws dim"]:
    return jax.vmap(target.unconstrain)(draws)
