"""A rotation of local coordinates after which global ones change their scales, but not their correlations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pushforward.bijections import Orthogonal, Triangular
from pushforward.posterior.curvature import LogDensity, hessian_products
from pushforward.training.compilation import jit_quick_compilation

# The changes of the Hessian with this many global coordinates, from this many pairs of Hessians in all.
MAX_TURNING, NUM_PAIRS = 8, 32
# A rotation is of no use if it gains less than this (nats).
MIN_GAIN = 0.002
# Two sweeps are enough if one of them removes less than this fraction of what is not diagonal.
MAX_SWEEPS, MIN_PROGRESS = 10, 0.05
# Sweeps take too long in more dimensions.
MAX_DIM = 512


def find_rotation(target: LogDensity, affine: Triangular, num_global: int, key: PRNGKeyArray) -> Orthogonal | None:
    r"""Q such that global coordinates change the scales of $Q^T v$ only; None if that gains little over v itself.

    In coordinates in which the Gaussian is N(0, I), let $C_k = E[\partial_k H]$ be the mean change of the local
    coordinates' Hessian with the global coordinate k. Given the global coordinates $z$, the local ones are about
    $N(\cdot, (I - \sum_k z_k C_k)^{-1})$, and a flow that gives each of them a scale loses a quarter of the sum of
    squares of the other entries of all $C_k$, in nats. A rotation to joint eigenvectors makes these zero, which exist
    if there is one global coordinate: then a random walk whose innovations have an unknown scale, or a regression
    whose coefficients have one, needs no further layers. Each $C_k$ is a mean of central differences of steps of one
    standard deviation, and the product of two independent estimates has no bias from their noise.

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
    which = np.repeat(which[:, None], NUM_PAIRS // len(which) // 2 * 2, axis=1)
    halves = np.asarray(_changes(target, affine, jnp.asarray(which), jnp.eye(dim)[num_global:], key), float)
    first, second = halves[:, 0], halves[:, 1]
    axes = joint_axes((first + second) / 2)
    gain = _loss(first, second) - _loss(axes.T @ first @ axes, axes.T @ second @ axes)
    return as_reflections(axes) if gain > MIN_GAIN else None


def _loss(first: Float[np.ndarray, "k local local"], second: Float[np.ndarray, "k local local"]) -> float:
    return (np.sum(first * second) - np.einsum("kii,kii->", first, second)) / 4


@jit_quick_compilation
def _changes(
    target: LogDensity,
    affine: Triangular,
    which: Int[Array, "k pairs"],
    directions: Float[Array, "local dim"],
    key: PRNGKeyArray,
) -> Float[Array, "k 2 local local"]:
    """For each global coordinate two independent estimates of the change of the local coordinates' Hessian.

    Changes larger than the median are scaled down to it: a single one far out would outweigh all others.
    """
    num_global, dtype = affine.shape[0] - len(directions), affine.loc.dtype
    directions = directions.astype(dtype)
    products = hessian_products(lambda v: target(affine.forward(v)), jnp.zeros_like(affine.loc))

    def change(pair):
        k, draw = pair
        low, high = (products(draw.at[k].set(end), directions)[:, num_global:] for end in (-1.0, 1.0))
        return (high - low + (high - low).T) / 4

    draws = jr.normal(key, (which.size, *affine.loc.shape), dtype)
    found = jax.lax.map(change, (which.ravel(), draws))
    found = found.reshape(len(which), 2, -1, *found.shape[1:])
    norms = jnp.linalg.norm(found, axis=(-2, -1), keepdims=True)
    largest = jnp.nanmedian(norms, axis=(1, 2), keepdims=True)
    shrunk = found * jnp.minimum(1, largest / jnp.where(norms > 0, norms, 1))
    usable = jnp.isfinite(norms)
    return jnp.where(usable, shrunk, 0).sum(2) / jnp.maximum(1, usable.sum(2))


def joint_axes(matrices: Float[np.ndarray, "matrices dim dim"]) -> Float[np.ndarray, "dim dim"]:
    """Approximate joint eigenvectors of symmetric matrices: orthonormal columns, by Jacobi's method.

    It starts from the eigenvectors of the leading combination of the matrices, or from the unit vectors. A sweep turns
    each pair of coordinates by the angle that leaves the smallest squares off the diagonals, disjoint pairs at a time,
    so that no turn is for the worse.

    Args:
        matrices: symmetric matrices.

    References:
        Cardoso and Souloumiac, Jacobi Angles for Simultaneous Diagonalization (1996).
    """
    dim = matrices.shape[-1]
    weights = np.linalg.eigh(np.einsum("kij,lij->kl", matrices, matrices))[1][:, -1]
    starts = np.eye(dim), np.linalg.eigh(np.einsum("k,kij->ij", weights, matrices))[1]
    axes = min(starts, key=lambda axes: _squares_off(axes.T @ matrices @ axes)).copy()
    turned = axes.T @ matrices @ axes
    rounds, squares = _disjoint_pairs(dim), _squares_off(turned)
    for _ in range(MAX_SWEEPS):
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


def as_reflections(matrix: Float[np.ndarray, "dim dim"]) -> Orthogonal:
    """An orthogonal matrix as a product of reflections; some of its columns may have the other sign.

    Args:
        matrix: the matrix.
    """
    dim = len(matrix)
    reflectors = np.linalg.qr(matrix, mode="raw")[0].T
    below = jnp.asarray(reflectors[np.tril_indices(dim, -1)])
    return eqx.tree_at(lambda rotation: rotation.below, Orthogonal(dim, key=jr.key(0)), below)


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
