"""Which coordinates change the scale of which others: parents for the conditioners of a hierarchical flow."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from pushforward.bijections import AbstractBijection
from pushforward.posterior.curvature import LogDensity
from pushforward.posterior.target import Whitened
from pushforward.training.compilation import jit_quick_compilation

NUM_DRAWS = 4096
# The distance of the two points of a difference quotient, in standard deviations.
STEP = 0.1
# An interaction counts if it is this many times its standard error; of 10^6 noisy ones, one is.
MIN_ERRORS = 5.0
# Interactions are of no use if a flow without them loses less than this (nats).
MIN_LOSS = 0.002
MAX_PARENTS = 4
MAX_DIM = 1024


class Interactions(NamedTuple):
    """Two groups of coordinates, and for each coordinate a few of the other group on which its scale depends most.

    Attributes:
        mask: True for the coordinates of the first group.
        of_second: for each coordinate of the second group, indices of the first group.
        of_first: for each coordinate of the first group, indices of the second group.
        loss: about what a flow loses that neglects the interactions, in nats.
    """

    mask: tuple[bool, ...]
    of_second: Int[np.ndarray, "coordinates parents"]
    of_first: Int[np.ndarray, "coordinates parents"]
    loss: float


def find_interactions(
    target: LogDensity, affine: AbstractBijection, num_global: int, key: PRNGKeyArray
) -> Interactions | None:
    r"""Interactions near a Gaussian, apart from those of local coordinates with global ones; None if they are small.

    In coordinates in which the Gaussian is N(0, I), let H be the Hessian of the log-density. If coordinate k changes
    the logarithm of the scale of coordinate j by s, then $m_{jk} = E[\partial_k H_{jj}] = E[H_{jj} u_k] = 2 s$, and a
    flow that neglects it loses $s^2 = m_{jk}^2 / 4$ nats. The expectation is a mean over draws, in which $v_j (H v)_j$
    with random signs v estimates $H_{jj}$.

    Args:
        target: the log-density.
        affine: the map from N(0, I) to the Gaussian.
        num_global: the number of global coordinates, which come first.
        key: for draws and signs.
    """
    dim = affine.shape[0]
    if dim > MAX_DIM:
        return None
    means, errors = (np.asarray(part) for part in _mean_changes(target, affine, key))
    strength = np.where(np.abs(means) > MIN_ERRORS * errors, np.abs(means), 0.0)
    np.fill_diagonal(strength, 0.0)
    strength[num_global:, :num_global] = 0.0
    loss = float((strength**2).sum() / 4)
    if loss < MIN_LOSS:
        return None
    mask = two_groups(strength**2)
    return Interactions(tuple(mask.tolist()), _parents(strength, mask), _parents(strength, ~mask), loss)


@functools.partial(jit_quick_compilation, level=1)
def _mean_changes(target: LogDensity, affine: AbstractBijection, key: PRNGKeyArray) -> tuple[Array, Array]:
    """m, and its standard errors."""
    draw_key, sign_key = jr.split(key)
    shape = (NUM_DRAWS, affine.shape[0])
    u = jr.normal(draw_key, shape)
    v = jr.rademacher(sign_key, shape, u.dtype)
    gradient = jax.grad(Whitened(target, affine))

    def curvatures(pair):
        u, v = pair
        return v * (gradient(u + STEP / 2 * v) - gradient(u - STEP / 2 * v)) / STEP

    found = jax.lax.map(curvatures, (u, v), batch_size=64)
    found = jnp.where(jnp.isfinite(found), found, jnp.nan)
    low, high = jnp.nanquantile(found, jnp.array([0.01, 0.99]), axis=0)
    found = jnp.clip(found, low, high)
    found = jnp.nan_to_num(found - jnp.nanmean(found, axis=0))
    return found.T @ u / NUM_DRAWS, jnp.std(found, axis=0)[:, None] / NUM_DRAWS**0.5


def two_groups(strength: Float[np.ndarray, "dim dim"]) -> Bool[np.ndarray, " dim"]:
    """True for a first group of coordinates on which as much as possible of the second depends; a local maximum.

    Args:
        strength: the strength of the influence of column k on row j; the diagonal does not count.
    """
    strength = np.where(np.eye(len(strength), dtype=bool), 0.0, strength)
    first = strength.sum(0) > strength.sum(1)
    # Each move raises the sum, so that this ends.
    while True:
        gains = np.where(first, 1.0, -1.0) * ((strength * first).sum(1) - (strength * ~first[:, None]).sum(0))
        if not gains.max() > 1e-9 * strength.sum():
            return first
        first[np.argmax(gains)] ^= True


def _parents(
    strength: Float[np.ndarray, "dim dim"], mask: Bool[np.ndarray, " dim"]
) -> Int[np.ndarray, "coordinates parents"]:
    """For each coordinate where the mask is False, the strongest of those where it is True."""
    return np.argsort(-strength[np.ix_(~mask, mask)], axis=1, kind="stable")[:, :MAX_PARENTS]
