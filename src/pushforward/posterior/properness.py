"""Directions along which a log-density does not fall: the posterior is improper there, so no fit exists.

Nothing informs such a direction: a site that no likelihood uses and that has no prior, or a combination of coordinates
that cancels out of the likelihood. A coordinate also seems so if the log-density has lost its derivative.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pushforward.posterior.search.candidates import Candidate
from pushforward.posterior.target import Target
from pushforward.printable import listed
from pushforward.training.compilation import jit_quick_compilation

# A wide direction is followed up to this many times its standard deviation. Fewer than MIN_DEVIATIONS show nothing,
# unless the standard deviation, or the mean, is absurd.
NUM_DEVIATIONS, MIN_DEVIATIONS, ABSURD_DEVIATION = 1e3, 10.0, 1e12
# How far a coordinate is followed; a combination of coordinates has rounding errors, and is followed less far.
MAX_LENGTH, MAX_ROUNDING = 1e30, 1e-4
# Within this distance, in nats, a log-density has not fallen.
MAX_FALL = 1.0
# The largest number of wide directions that are followed, and of coordinates that a message names.
MAX_DIRECTIONS, MAX_NAMES = 32, 5
# A coordinate belongs to a direction if its part of the unit vector is larger.
MIN_PART = 0.1
# Where a derivative is looked for, on both sides of the best Gaussian's mean.
DISTANCES = np.geomspace(0.1, 1e3, 9)


def check_proper(target: Target, best: Candidate) -> None:
    """Raise if the target does not fall along a direction in which its best Gaussian is extremely wide.

    Also if it has no derivative along such a coordinate, although its values change.

    Args:
        target: the target.
        best: the Gaussian with the highest ELBO.

    Raises:
        ValueError: if the target is improper or has no derivative; the message names the coordinates.
    """
    directions, deviations = _widest_directions(best)
    if not len(directions):
        return
    dtype = target.start.dtype
    is_coordinate = (directions != 0).sum(1) == 1
    lengths = np.where(is_coordinate, MAX_LENGTH, MAX_ROUNDING / np.finfo(dtype).eps)
    lengths = np.minimum(NUM_DEVIATIONS * deviations, lengths)
    conclusive = (lengths >= MIN_DEVIATIONS * deviations) | (deviations > ABSURD_DEVIATION)
    points = jnp.asarray(np.stack([np.asarray(target.start), best.loc]), dtype)
    improper = conclusive & np.asarray(_never_falls(target, points, jnp.asarray(lengths[:, None] * directions, dtype)))
    _check_derivatives(target, best, directions[is_coordinate])
    parts = np.abs(directions[improper]).max(axis=0, initial=0)
    names = [name for name, part in zip(target.coordinate_names(), parts, strict=True) if part > MIN_PART]
    if not names:
        return
    shown = listed(names, MAX_NAMES)
    what = f"{shown} is not informed" if len(names) == 1 else f"{shown}, or combinations of them, are not informed"
    raise ValueError(
        f"{what} by the model: the log-density does not fall however far the values go, so the posterior is improper. "
        "Give every such coordinate a prior, or take it out of the model."
    )


def _check_derivatives(target: Target, best: Candidate, directions: np.ndarray) -> None:
    """Raise if all derivatives along a coordinate are zero where the values differ."""
    if not len(directions):
        return
    dtype = target.start.dtype
    steps = jnp.asarray(np.concatenate([-DISTANCES, DISTANCES]), dtype)
    values, slopes = map(
        np.asarray, _along(target, jnp.asarray(best.loc, dtype), jnp.asarray(directions, dtype), steps)
    )
    known = np.isfinite(values)
    ranges = np.max(values, 1, where=known, initial=-np.inf) - np.min(values, 1, where=known, initial=np.inf)
    lost = (ranges > MAX_FALL) & np.all(~known | (slopes == 0), axis=1)
    if lost.any():
        names = [target.coordinate_names()[i] for i in np.abs(directions[lost]).argmax(1)]
        raise ValueError(
            f"the log-density changes with {listed(names, MAX_NAMES)}, but its derivative is 0 everywhere. A fit needs "
            "it: remove jax.lax.stop_gradient, rounding, and conversions to integers or by item()."
        )


@jit_quick_compilation
def _along(target: Target, center: Array, directions: Array, steps: Array) -> tuple[Array, Array]:
    """The log-densities and their derivatives on lines through a point."""

    def one(direction):
        values, gradients = jax.vmap(lambda step: jax.value_and_grad(target)(center + step * direction))(steps)
        return values, gradients @ direction

    return jax.lax.map(one, directions)


def _widest_directions(best: Candidate) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors, one a row, along which the Gaussian is as wide as a direction without curvature, and its widths.

    Without any curvature the Gaussian is not wide, but its mean is absurdly far away.
    """
    widest = (10 * np.finfo(best.loc.dtype).eps ** 0.5) ** -0.5
    if best.factor.ndim == 1:
        order = np.argsort(-best.factor)[:MAX_DIRECTIONS]
        vectors, deviations = np.eye(len(best.factor))[order], best.factor[order]
    else:
        largest = np.abs(best.factor).max()  # its square may overflow
        columns, values, _ = np.linalg.svd(best.factor / largest)
        vectors, deviations = columns.T[:MAX_DIRECTIONS], largest * values[:MAX_DIRECTIONS]
    vectors = np.where(np.abs(vectors) > np.finfo(best.loc.dtype).eps ** 0.5, vectors, 0)
    # The search found no curvature, so that it kept N(0, I), as for a Gaussian that is N(0, I).
    unit = np.ones_like(best.loc) if best.factor.ndim == 1 else np.eye(len(best.loc))
    if np.array_equal(best.factor, unit):
        deviations = np.full_like(deviations, MAX_LENGTH / NUM_DEVIATIONS)
    wide = deviations > widest / 2
    far = np.flatnonzero(np.abs(best.loc) > ABSURD_DEVIATION)[:MAX_DIRECTIONS]
    vectors = np.concatenate([vectors[wide], np.eye(best.loc.size)[far]])
    return vectors, np.concatenate([deviations[wide], np.abs(best.loc[far])])


@jit_quick_compilation
def _never_falls(target: Target, points: Float[Array, "points dim"], moves: Float[Array, "directions dim"]) -> Array:
    """For each direction, whether the log-density does not fall from any point, on one side."""

    def one(move):
        def values(length):
            return jax.vmap(target)(points + length * move)

        here = values(0.0)
        sides = [jnp.minimum(values(side), values(side / 10)) for side in (1.0, -1.0)]
        stays = [jnp.isfinite(here) & jnp.isfinite(there) & (there >= here - MAX_FALL) for there in sides]
        return jnp.array([side.all() for side in stays]).any()

    return jax.lax.map(one, moves)
