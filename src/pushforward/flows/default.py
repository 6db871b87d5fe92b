"""The default flows for fitting posteriors, which start as a permutation of coordinates."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from pushforward.bijections import (
    AbstractBijection,
    Affine,
    Chain,
    Concatenate,
    Coupling,
    Elementwise,
    Identity,
    Permutation,
    RationalQuadraticSpline,
    Rotation,
    SinhArcsinh,
    Triangular,
)
from pushforward.bijections.autoregressive.networks import LocalMLPs, SkipMLP
from pushforward.flow import Flow
from pushforward.flows.autoregressive import nsf, realnvp
from pushforward.flows.stack import standard_normal

# The groups of coordinates, see `hierarchical_flow`.
Neighbors = tuple[tuple[bool, ...], Array | np.ndarray, Array | np.ndarray]
# From this dimension on, couplings with one hidden layer gain about as much per step as with two, in half of the time.
MODERATE_DIM = 32
# A matrix of more dimensions takes too much memory.
MAX_DENSE_DIM = 3072


def affine_map(dim: int) -> Triangular | Elementwise:
    """A learnable affine map, at first the identity: triangular up to MAX_DENSE_DIM dimensions, beyond it diagonal.

    Args:
        dim: the dimension.
    """
    return Triangular(dim) if dim <= MAX_DENSE_DIM else Elementwise(Affine(), dim)


def _hidden(dim: int) -> tuple[int, ...]:
    width = max(32, min(2 * dim, 128))
    return (width, width) if dim < MODERATE_DIM else (width,)


def without_permutation(bijection: AbstractBijection) -> Chain:
    """A bijection that starts as the identity.

    Args:
        bijection: one that starts as a permutation of coordinates.
    """
    order = jnp.argsort(bijection.forward(jnp.arange(float(bijection.shape[0]))))
    return Chain([Permutation(order), bijection])


def default_flow(dim: int, *, key: PRNGKeyArray) -> Flow:
    """Affine couplings, then an affine map that adjusts location and scale. It starts as a permutation.

    In one dimension, a spline replaces the couplings, which need at least two coordinates.

    Args:
        dim: the dimension.
        key: the key for the initial parameters.
    """
    if dim == 1:
        return Flow(standard_normal(1), Chain([Elementwise(RationalQuadraticSpline(16, 8.0), 1), Triangular(1)]))
    couplings = realnvp(dim, num_layers=12, hidden=_hidden(dim), key=key)
    return Flow(couplings.base, Chain([couplings.bijection, affine_map(dim)]))


def spline_flow(dim: int, *, key: PRNGKeyArray) -> Flow:
    """Spline couplings, then an affine map: more flexible than affine couplings, but slower.

    Args:
        dim: the dimension.
        key: the key for the initial parameters.
    """
    couplings = nsf(dim, num_layers=6, hidden=_hidden(dim), affine=False, key=key)
    return Flow(couplings.base, Chain([couplings.bijection, affine_map(dim)]))


def marginal_splines(dim: int) -> Elementwise:
    """A monotone spline of each coordinate, for values of order one; at first the identity.

    Args:
        dim: the dimension.
    """
    return Elementwise(RationalQuadraticSpline(8, 4.0), dim)


def hierarchical_flow(
    affine: AbstractBijection,
    num_global: int,
    neighbors: Neighbors | None = None,
    rotation: Rotation | None = None,
    *,
    key: PRNGKeyArray,
) -> Flow:
    r"""A flow for hierarchical models: global parameters first, then local parameters given the global ones.

    $v_G = T(u_G)$ with couplings and splines $T$; then the local coordinates get a scale and a shift that depend on
    $v_G$; then follows an affine map $A$, whose global part depends on $v_G$ alone; then the local coordinates get
    again a scale and a shift, which depend on the global coordinates of $A(v)$. So the scales of local noise and the
    scales of local parameters can both depend on the global ones, as in (partial) non-centering. A fixed rotation
    before $A$ lets correlations depend on them too. At the end, sinh-arcsinh transformations give each coordinate a
    skewness and tails of its own. The networks have few inputs, so a step of training is cheap. It starts as $A(u)$,
    or as $A$ after the rotation, which is the same distribution, with $u \sim N(0, I)$. Without global coordinates,
    sinh-arcsinh transformations come before and after the affine map.

    If coordinates of two groups influence the scales of each other, further couplings on both sides of $A$ give each
    coordinate a scale and a shift that depend on a few of the other group, by a small network of its own.

    Args:
        affine: $A$, a `Triangular`, an `Arrow` or a `Banded`.
        num_global: the number of global coordinates, which come first.
        neighbors: True for the coordinates of the first group, and for each coordinate of the second and of the first
            group indices of its parents in the other.
        rotation: with global coordinates, a fixed rotation of the others after their first scales.
        key: the key for the initial parameters.

    References:
        Papaspiliopoulos, Roberts and Skold, A General Framework for the Parametrization of Hierarchical Models (2007).
        Ko and Domke, Model-Informed Flows (2025).
        Jones and Pewsey, Sinh-arcsinh Distributions (2009).
    """
    dim = affine.shape[0]
    marginals = Elementwise(SinhArcsinh(), dim)
    global_key, before_key, after_key = jr.split(key, 3)
    local_before = _between_neighbors(dim, neighbors, jr.fold_in(before_key, 0))
    local_after = _between_neighbors(dim, neighbors, jr.fold_in(after_key, 0))[::-1]
    if num_global == 0:
        return Flow(standard_normal(dim), Chain([marginals, *local_before, affine, *local_after, marginals]))
    is_global = np.arange(dim) < num_global
    others = Identity((dim - num_global,))
    before, after = (
        Coupling(Affine(), dim, mask=is_global, conditioner=_of_globals, key=k) for k in (before_key, after_key)
    )
    of_globals = [Elementwise(RationalQuadraticSpline(16, 8.0), num_global)]
    if num_global > 1:
        couplings = realnvp(num_global, num_layers=6, hidden=_hidden(num_global), key=global_key).bijection
        of_globals = [without_permutation(couplings), *of_globals]
    globals_first = Concatenate([Chain(of_globals), others])
    turn = [] if rotation is None else [Concatenate([Identity((num_global,)), rotation])]
    parts = [globals_first, before, *turn, *local_before, affine, *local_after, after, marginals]
    return Flow(standard_normal(dim), Chain(parts))


def _of_globals(num_inputs: int, num_outputs: int, key: PRNGKeyArray) -> SkipMLP:
    return SkipMLP(num_inputs, num_outputs, (32, 32), key=key)


def _between_neighbors(dim: int, neighbors: Neighbors | None, key: PRNGKeyArray) -> list[AbstractBijection]:
    """A coupling that changes the first group, and one that changes the second."""
    if neighbors is None:
        return []
    mask, of_second, of_first = neighbors
    first = np.array(mask)

    def coupling(mask, parents, key):
        def small_networks(num_inputs, num_outputs, key):
            return LocalMLPs(parents, num_outputs, (8,), key=key)

        return Coupling(Affine(), dim, mask=mask, conditioner=small_networks, key=key)

    first_key, second_key = jr.split(key)
    return [coupling(~first, of_first, first_key), coupling(first, of_second, second_key)]
