"""The density of draws in their own space, under a flow of unconstrained vectors."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pushforward.flow import Flow
from pushforward.posterior.target import Draw, Target

# The relative error up to which a draw fulfills an equation, such as a sum of 1: that of NumPyro's constraints.
TOLERANCE = 1e-6


def log_prob_of_draws(
    target: Target, flow: Flow, draws: Draw, condition: Array | None = None
) -> Float[Array, " draws"]:
    """The log-density of draws in their own space, in nats; minus infinity outside of the support.

    Args:
        target: the target of the draws.
        flow: a flow in the target's unconstrained coordinates.
        draws: the draws, with one leading axis.
        condition: the condition of the flow, if it takes one.

    Raises:
        ValueError: if the draws do not have the structure or the shapes of those of the target.
    """

    def one(draw):
        inside, u = in_support(target, draw), target.unconstrain(draw)
        # Outside of the support, u is that of another draw, or NaN.
        u = jnp.where(inside, u, target.start)
        return inside, u, target.log_volume(u)

    inside, u, log_volume = jax.vmap(one)(_checked(target, draws))
    return jnp.where(inside, flow.log_prob(u, condition) - log_volume, -jnp.inf)


def in_support(target: Target, draw: Draw) -> Bool[Array, ""]:
    """Whether a draw lies in the interior of the support: then its unconstrained vector is finite, and gives it back.

    Args:
        target: the target.
        draw: one draw.
    """
    u = target.unconstrain(draw)
    again = target.space.latent(target.constrain(u))
    equal = jax.tree.map(_is_close, target.space.latent(draw), again)
    return jnp.stack(jax.tree.leaves(equal)).all() & jnp.isfinite(u).all()


def _is_close(value: Array, other: Array) -> Bool[Array, ""]:
    """Whether arrays are equal up to rounding; NaN equals nothing."""
    tolerance = max(TOLERANCE, float(jnp.finfo(value.dtype).eps) ** 0.5)
    # Entries of a vector or matrix are computed from each other, so small ones have the error of large ones.
    axes = tuple(range(-min(value.ndim, 2), 0))
    scale = jnp.max(jnp.abs(value), axes, keepdims=True)
    return jnp.all(jnp.abs(value - other) <= tolerance * scale)


def _checked(target: Target, draws: Draw) -> Draw:
    """The part of draws that matters, as arrays of floating-point numbers in their own precision."""
    draw = eqx.filter_eval_shape(lambda t: t.constrain(t.start), target)
    if isinstance(draw, dict):
        # Deterministic sites may be among the draws or not.
        draw = {name: draw[name] for name in eqx.filter_eval_shape(target.space.latent, draw)}
        if isinstance(draws, Mapping):
            draws = {name: draws[name] for name in draw if name in draws}
    if jax.tree.structure(draws) != jax.tree.structure(draw):
        raise ValueError(
            f"draws must hold {_described(draw)}, each with a leading axis, but holds {_described(draws)}."
        )
    arrays = jax.tree.map(_as_float, draws)
    lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(arrays)}
    same = jax.tree.map(lambda array, one: array.ndim > 0 and array.shape[1:] == one.shape, arrays, draw)
    if len(lengths) > 1 or not all(jax.tree.leaves(same)):
        raise ValueError(
            f"draws must hold {_described(draw)}, each with a leading axis of one length, but holds "
            f"{_described(arrays)}."
        )
    return arrays


def _as_float(leaf: Any) -> Array:
    array = jnp.asarray(leaf)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def _described(tree: Draw) -> str:
    """The shapes of the leaves, by their names."""
    named = [
        (jax.tree_util.keystr(p, simple=True, separator="."), jnp.shape(a)) for p, a in jax.tree.leaves_with_path(tree)
    ]
    return ", ".join(f"{name or 'an array'} of shape {shape}" for name, shape in named) or "nothing"
