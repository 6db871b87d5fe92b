"""Does a density fall along lines far outside of a fit, as a proper posterior's does?

A density that is integrable falls faster than 1 / r along almost all lines parallel to an axis, and faster than r^-k in
almost all directions that move k coordinates. Lines are straight in unconstrained coordinates, where improper
posteriors often are flat in one coordinate, and in the space of the latent values, where a location and its scale can
grow together.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from pushforward.generators import numpy_generator
from pushforward.posterior.latent import batch_size, has_supports, in_batches, latent_values, map_parts, without_density
from pushforward.posterior.rounding import is_noise, smooth_log_density
from pushforward.posterior.target import Target
from pushforward.posterior.thinning import thinned
from pushforward.posterior.verdict.saturation import is_saturated
from pushforward.training.compilation import jit_quick_compilation

MAX_DRAWS = 10_000
# Lines along coordinates and along the longest principal axes, at most this number of each, and lines in random
# directions. Draws of a fit spread along a flat direction, so it is near one of the longest axes.
MAX_AXES, MAX_PRINCIPAL, NUM_RANDOM = 256, 64, 64
# Distances from the median of the draws, in standard deviations.
LOG_DISTANCES = np.arange(math.log(10.0), math.log(1e8), 0.5)
# The slope is measured over this number of distances, a factor of e; rounding may change it.
SPAN, TOLERANCE = 2, 0.01
# A smaller rise of the log-density is that of a density that becomes constant.
MIN_RISE = 1.0
# A density that is lower than that of typical draws by more than a float can hold says nothing: the line may come out
# of a valley, as that of a regression does if large residuals slowly widen the noise, and the density may fall again.
MAX_DEPTH = 745.0
# The number of draws whose median log-density is that of typical draws.
NUM_TYPICAL = 256
# Lines of latent values that end before this point leave their support.
FAR = 16


def is_improper(target: Target, draws: Float[np.ndarray, "draws dim"], key: PRNGKeyArray) -> bool:
    """Whether log p + k log r does not fall at the end of a line.

    Args:
        target: the target.
        draws: draws of a fit, in unconstrained coordinates.
        key: for the directions.
    """
    rng = numpy_generator(key)
    # Enough for medians, scales and principal axes.
    draws = thinned(draws, MAX_DRAWS)
    directions, powers = _directions(draws, rng)
    if _any_rises(target, draws, directions, powers, draws, False):
        return True
    if not has_supports(target):
        return False
    values = latent_values(target, draws)
    if values.shape[1] != draws.shape[1]:  # simplices and correlations have more entries than free coordinates
        return False
    directions, powers = _subspace_directions(values, rng)
    return _any_rises(target, values, directions, powers, draws, True)


def _any_rises(
    target: Target, points: np.ndarray, directions: np.ndarray, powers: np.ndarray, draws: np.ndarray, constrained: bool
) -> bool:
    """Whether the density does not fall along some line from the median of points, apart from rounding noise."""
    typical = _at(target, points[:NUM_TYPICAL], constrained)
    typical = float(np.median(typical[np.isfinite(typical)])) if np.isfinite(typical).any() else -math.inf
    shortest = FAR if constrained else SPAN
    log_p = _log_densities(target, points, directions, constrained)
    rising = _rises(log_p, powers, typical, shortest)
    if not rising.any():
        return False
    log_p = log_p[rising]
    lines = np.median(points, axis=0) + directions[rising, None] * np.exp(LOG_DISTANCES)[:, None]
    known = np.nonzero(np.isfinite(log_p))
    order = np.argsort(-log_p[known], kind="stable")
    known = tuple(index[order] for index in known)
    u = lines[known]
    if constrained:
        u = in_batches(lambda part: _unconstrained(target, part), u)
    log_p[known] = np.where(is_noise(target, u, draws), np.nan, log_p[known])
    return bool(_rises(log_p, powers[rising], typical, shortest).any())


def _at(target: Target, points: np.ndarray, constrained: bool) -> np.ndarray:
    return in_batches(lambda part: _batch(target, part, constrained), points)


def _unconstrain(target: Target) -> Callable[[Array], Array]:
    """From latent values to the unconstrained vector."""
    latent = without_density(target)
    unravel = ravel_pytree(latent.constrain(target.start))[1]
    return lambda x: latent.unconstrain(unravel(x))


@jit_quick_compilation
def _unconstrained(target: Target, values: Float[Array, "batch dim"]) -> Array:
    return jax.vmap(_unconstrain(target))(values)


def _log_densities(target: Target, points: np.ndarray, directions: np.ndarray, constrained: bool) -> np.ndarray:
    """The log-densities on lines from the median of some points."""
    center, found = np.median(points, axis=0), []
    # One batch of points at a time, which limits the memory in many dimensions.
    at_once = max(1, batch_size(points.shape[1]) // len(LOG_DISTANCES))
    for start in range(0, len(directions), at_once):
        lines = center + directions[start : start + at_once, None] * np.exp(LOG_DISTANCES)[:, None]
        lines = lines.reshape(-1, points.shape[1])
        log_p = _at(target, lines, constrained)
        if not constrained:
            log_p = np.where(is_saturated(target, lines), np.nan, log_p)
        found.append(log_p.reshape(-1, len(LOG_DISTANCES)))
    return np.concatenate(found)


@functools.partial(jit_quick_compilation, level=1)
def _batch(target: Target, points: Float[Array, "batch dim"], constrained: bool) -> Array:
    if not constrained:
        return map_parts(jax.vmap(lambda u: smooth_log_density(target, u)), points)
    latent, unconstrain = without_density(target), _unconstrain(target)

    def log_density(x):
        u = unconstrain(x)
        back = ravel_pytree(latent.constrain(u))[0]
        inside = jnp.all(jnp.abs(back - x) <= 1e-3 * jnp.abs(x))
        return jnp.where(inside, smooth_log_density(target, u) - latent.log_volume(u), jnp.nan)

    return map_parts(jax.vmap(log_density), points)


def _rises(
    log_p: Float[np.ndarray, "lines distances"],
    powers: Float[np.ndarray, " lines"],
    typical: float,
    shortest: int = SPAN,
) -> Bool[np.ndarray, " lines"]:
    """Whether log p + power log r does not fall at the end of each line.

    Args:
        log_p: the log-densities on the lines.
        powers: the powers of r.
        typical: the log-density of typical draws.
        shortest: the index of the distance before which a line must not end.
    """
    # Where the density can no longer be computed, the last values before it count.
    unknown = np.concatenate([np.isnan(log_p) | (log_p == np.inf), np.ones((len(log_p), 1), bool)], 1)
    last = np.argmax(unknown, 1) - 1
    rows = np.flatnonzero(last >= shortest)
    end = log_p[rows, last[rows]]
    with np.errstate(invalid="ignore"):
        first, then = np.diff([log_p[rows, last[rows] - SPAN], log_p[rows, last[rows] - 1], end], axis=0)
    slope = (first + then) / (LOG_DISTANCES[SPAN] - LOG_DISTANCES[0])
    # On the way out of a valley, if the line ends before it is clear whether the density falls again.
    levels_off = (first > MIN_RISE) & (then < first / 2)
    ends_early = (last[rows] < len(LOG_DISTANCES) - 1) & (then > MIN_RISE) & (end < typical)
    unclear = (end < typical - MAX_DEPTH) | levels_off | ends_early
    rising = np.zeros(len(log_p), bool)
    rising[rows] = ~unclear & (slope + powers[rows] >= -TOLERANCE)
    return rising


def _directions(draws: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Coordinate axes, principal axes and random directions, a standard deviation long, and the powers of r."""
    dim = draws.shape[1]
    scale = _scales(draws)
    axes = [(rng.permutation(dim)[:MAX_AXES, None] == np.arange(dim)) * scale]
    if 1 < dim <= MAX_AXES:
        limited = np.clip((draws - np.median(draws, axis=0)) / scale, -10, 10)
        values, vectors = np.linalg.eigh(np.cov(limited, rowvar=False))
        axes.append((vectors * np.sqrt(np.maximum(values, 0))).T[-MAX_PRINCIPAL:] * scale)
    lines = np.concatenate([*axes, *(-a for a in axes)])
    random = scale * rng.normal(size=(NUM_RANDOM, dim)) / math.sqrt(dim)
    return np.concatenate([lines, random]), np.repeat([1.0, dim], [len(lines), NUM_RANDOM])


def _subspace_directions(values: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random directions that move all, two or three coordinates, and their number."""
    dim = values.shape[1]
    ranks = rng.random((4 * NUM_RANDOM, dim)).argsort(1)
    numbers = np.where(rng.random(len(ranks)) < 0.25, dim, np.minimum(rng.integers(2, 4, len(ranks)), dim))
    moved = ranks < numbers[:, None]
    return np.where(moved, rng.normal(size=ranks.shape) * _scales(values), 0.0), numbers.astype(float)


def _scales(draws: np.ndarray) -> np.ndarray:
    low, high = np.quantile(draws, (0.16, 0.84), axis=0)
    return np.where(high > low, (high - low) / 2, 1.0)
