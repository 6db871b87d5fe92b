"""The flows of a posterior fit put together: compositions, other bases, and unconstrained coordinates."""

from typing import Any, cast

import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular

from pushforward.bijections import AbstractBijection, Affine, Chain, Elementwise, Frozen, Triangular
from pushforward.flow import Flow, Learnable
from pushforward.flows import default
from pushforward.posterior.search.candidates import GaussianMap
from pushforward.training.compilation import jit_quick_compilation

# The initial degrees of freedom. Training does not reach heavy tails from a nearly normal base.
INITIAL_DF = 4.0

# Compiled as a whole; otherwise its construction compiles a hundred small programs.
without_permutation = jit_quick_compilation(default.without_permutation)


def composed(flow: Flow, more: Flow) -> Flow:
    """The composition of two flows, which initially equals the first: `more` is initialized as a permutation."""
    return Flow(flow.base, Chain([flow.bijection, with_base(flow.base, more).bijection]))


def student_t(dim: int) -> Learnable:
    """Independent t distributions whose degrees of freedom, locations and scales are learned."""
    ones = jnp.ones(dim)
    return Learnable(dist.StudentT(INITIAL_DF * ones, 0 * ones, ones).to_event(1))


@jit_quick_compilation
def composed_affine(outer: Any, inner: Any) -> GaussianMap:
    """The affine map outer after inner, which are triangular or diagonal; a diagonal one after a triangular one too."""
    if isinstance(outer, Elementwise) and isinstance(inner, Triangular):
        scale = jnp.broadcast_to(cast(Affine, outer.scalars).scale, outer.shape)
        return Triangular(inner.dim, outer.forward(inner.loc), scale[:, None] * inner.matrix)
    if isinstance(outer, Elementwise):
        first, then = inner.scalars, cast(Affine, outer.scalars)
        return Elementwise.each(Affine, outer.forward(first.loc), then.scale * first.scale)
    return Triangular(outer.dim, outer.forward(inner.loc), jnp.tril(outer.matrix @ inner.matrix))


def unwhitened(affine: AbstractBijection, part: Flow) -> Flow:
    """The flow in unconstrained coordinates.

    Args:
        affine: maps whitened to unconstrained coordinates.
        part: the flow in whitened coordinates.
    """
    if isinstance(part.bijection, Triangular) and isinstance(affine, Triangular):
        return Flow(part.base, composed_affine(affine, part.bijection))
    return Flow(part.base, Chain([part.bijection, affine]))


def with_base(base: dist.Distribution | Learnable, flow: Flow) -> Flow:
    """The flow over another base, after a permutation of coordinates, so that its initial distribution is that base.

    Args:
        base: the other base.
        flow: one that begins as a permutation of coordinates.
    """
    return Flow(base, without_permutation(flow.bijection))


@jit_quick_compilation
def marginals_in_axes_of(affine: Triangular) -> Chain:
    """A spline of each coordinate that an affine map leads to, as a bijection before the map.

    Two fixed matrices lead there, to coordinates of unit variance, and back. It starts as the identity.

    Args:
        affine: the affine map from whitened coordinates.
    """
    dim, there = affine.dim, affine.matrix / jnp.linalg.norm(affine.matrix, axis=1, keepdims=True)
    back = solve_triangular(there, jnp.eye(dim, dtype=there.dtype), lower=True)
    to, fro = (Frozen(Triangular(dim, matrix=matrix)) for matrix in (there, back))
    return Chain([to, default.marginal_splines(dim), fro])
