"""A rotation of local coordinates after which global ones change their scales, but not their correlations."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pushforward.bijections import AbstractBijection, Rotation
from pushforward.posterior.curvature import LogDensity, hessian, hessian_products
from pushforward.posterior.target import Whitened
from pushforward.training.compilation import jit_quick_compilation

# The rotation suits this many global coordinates, the first ones; it takes this many pairs of Hessians.
MAX_TURNING, NUM_PAIRS = 6, 36
# A rotation is of no use if it gains less than this (nats), or less than this many standard errors.
MIN_GAIN, MIN_ERRORS = 0.002, 3.0
# Sweeps end if one removes less than this fraction of the squares off the diagonals, or if these are rounding noise.
MAX_SWEEPS, MIN_PROGRESS, NOISE = 10, 0.05, 1e-20
# In more dimensions sweeps take too long; in many more, Hessians do.
MAX_SWEEP_DIM, MAX_DIM = 200, 1024


def find_rotation(target: LogDensity, affine: AbstractBijection, num_global: int, key: PRNGKeyArray) -> Rotation | None:
    r"""Q such that global coordinates change the scales of $Q^T v$ only; None if that gains little over v itself.

    In coordinates in which the Gaussian is N(0, I), let $C_k = E[\partial_k H]$ be the mean change of the local
    coordinates' Hessian with the global coordinate k. Given the global coordinates $z$, the local ones are about
    $N(\cdot, (I - \sum_k z_k C_k)^{-1})$, and a flow that gives each of them a scale loses a quarter of the sum of
    squares of the entries of all $C_k$ off their diagonals, in nats. The columns of Q are joint eigenvectors, which
    make these entries zero if the $C_k$ commute. So a random walk whose innovations have an unknown scale, or a
    regression whose coefficients have one, needs no further layers. Each $C_k$ is a mean of central differences of
    steps of one standard deviation, of which those above the median norm are scaled down to it. Three independent
    estimates tell a gain from noise: one gives axes, and the product of the other two is without bias.

    Args:
        target: the log-density.
        affine: the map from N(0, I) to a Gaussian near the target.
        num_global: the number of global coordinates, which come first, the most influential one before the others.
        key: for draws.
    """
    dim = affine.shape[0]
    if num_global == 0 or dim > MAX_DIM:
        return None
    which = np.arange(min(num_global, MAX_TURNING))
    which = np.repeat(which[:, None], NUM_PAIRS // len(which) // 3 * 3, axis=1)
    found = np.asarray(_changes(target, affine, jnp.asarray(which), key), float)[..., num_global:, num_global:]
    first, second, third = found.swapaxes(0, 1)
    losses = _losses(first, second)
    if not _counts(losses):
        return None
    axes = joint_axes(third)
    if not _counts(losses - _losses(axes.T @ first @ axes, axes.T @ second @ axes)):
        return None
    return Rotation(joint_axes(found.mean(1)))


def _losses(first: Float[np.ndarray, "k n n"], second: Float[np.ndarray, "k n n"]) -> Float[np.ndarray, "k n n"]:
    """What the entries off the diagonals cost, in nats."""
    return first * second * (1 - np.eye(first.shape[-1])) / 4


def _counts(nats: Float[np.ndarray, "k n n"]) -> bool:
    """Whether the sum is large enough; its terms, of which two are equal by symmetry, have independent errors."""
    return bool(nats.sum() > max(MIN_GAIN, MIN_ERRORS * np.sqrt(2 * np.sum(nats**2))))


@functools.partial(jit_quick_compilation, level=1)
def _changes(
    target: LogDensity, affine: AbstractBijection, which: Int[Array, "k pairs"], key: PRNGKeyArray
) -> Float[Array, "k 3 dim dim"]:
    """For each of some coordinates, three independent estimates of the mean change of the Hessian.

    Changes larger than the median are scaled down to it: a single one far out would outweigh all others.
    """
    dim = affine.shape[0]
    center = jnp.zeros(dim)
    hessian_at = hessian(hessian_products(Whitened(target, affine), center), dim)

    def change(pair):
        k, draw = pair
        found = (hessian_at(draw.at[k].set(1)) - hessian_at(draw.at[k].set(-1))) / 2
        return (found + found.T) / 2

    draws = jr.normal(key, (which.size, dim), center.dtype)
    found = jax.lax.map(change, (which.ravel(), draws)).reshape(len(which), 3, -1, dim, dim)
    norms = jnp.linalg.norm(found, axis=(-2, -1), keepdims=True)
    usable = jnp.isfinite(norms)
    largest = jnp.nanmedian(jnp.where(usable, norms, jnp.nan), axis=(1, 2), keepdims=True)
    shrunk = found * jnp.minimum(1, largest / jnp.where(norms > 0, norms, 1))
    return jnp.where(usable, shrunk, 0).sum(2) / jnp.maximum(1, usable.sum(2))


def joint_axes(matrices: Float[np.ndarray, "matrices dim dim"]) -> Float[np.ndarray, "dim dim"]:
    """Approximate joint eigenvectors of symmetric matrices: orthonormal columns, by Jacobi's method.

    It starts from the eigenvectors of the leading combination of the matrices, or from the unit vectors. A sweep turns
    each pair of coordinates by the angle that leaves the smallest squares off the diagonals, disjoint pairs at a time,
    so that no turn increases their sum.

    Args:
        matrices: symmetric matrices.

    References:
        Cardoso and Souloumiac, Jacobi Angles for Simultaneous Diagonalization (1996).
    """
    dim = matrices.shape[-1]
    weights = np.linalg.eigh(np.einsum("kij,lij->kl", matrices, matrices))[1][:, -1]
    starts = np.eye(dim), np.linalg.eigh(np.einsum("k,kij->ij", weights, matrices))[1]
    axes = min(starts, key=lambda axes: _squares_off(axes.T @ matrices @ axes))
    turned = axes.T @ matrices @ axes
    rounds, squares, all_squares = _disjoint_pairs(dim), _squares_off(turned), np.sum(matrices**2)
    for _ in range(MAX_SWEEPS if dim <= MAX_SWEEP_DIM else 0):
        if squares <= NOISE * all_squares:
            break
        for i, j in rounds:
            gap, twice = turned[:, i, i] - turned[:, j, j], 2 * turned[:, i, j]
            cosine, sine = (gap**2 - twice**2).sum(0), 2 * (gap * twice).sum(0)
            angle = np.arctan2(sine, cosine + np.hypot(cosine, sine)) / 2
            for array in (turned, turned.swapaxes(1, 2), axes.T):
                _turn_rows(array, i, j, angle)
        before, squares = squares, _squares_off(turned)
        if squares > (1 - MIN_PROGRESS) * before:
            break
    return axes


def _turn_rows(array: np.ndarray, i: np.ndarray, j: np.ndarray, angle: np.ndarray) -> None:
    """Turn the rows i and j of matrices towards each other, in place."""
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = array[..., i, :], array[..., j, :]
    array[..., i, :], array[..., j, :] = cos * a + sin * b, cos * b - sin * a


def _disjoint_pairs(dim: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """All pairs of coordinates, as rounds of a tournament: in each, every coordinate is in at most one pair."""
    order, rounds = np.arange(dim + dim % 2), []
    half = len(order) // 2
    for _ in range(len(order) - 1):
        i, j = order[:half], order[half:][::-1]
        real = (i < dim) & (j < dim)
        rounds.append((i[real], j[real]))
        order = np.concatenate([order[:1], order[-1:], order[1:-1]])
    return rounds


def _squares_off(matrices: np.ndarray) -> float:
    """The sum of squares off the diagonals."""
    return float(np.sum(matrices**2) - np.einsum("kii,kii->", matrices, matrices))
