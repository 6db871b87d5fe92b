"""Flows over angles and real numbers."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, PRNGKeyArray

from pushforward.arguments import POSITIVE, checked
from pushforward.bijections import (
    AbstractBijection,
    Chain,
    CircularSpline,
    Coupling,
    OntoCircles,
    Permutation,
    Scan,
)
from pushforward.bijections.checks import check_sizes
from pushforward.flow import Flow
from pushforward.flows.stack import Activation, Base, base_or_normal, layer_permutations, spline


@checked(bound=POSITIVE)
def circular(
    dim: int,
    *,
    key: PRNGKeyArray,
    angles: Sequence[bool] | Bool[Array | np.ndarray, " dim"] | None = None,
    num_layers: int = 6,
    hidden: Sequence[int] = (64, 64),
    bins: int = 8,
    bound: float = 5.0,
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = jax.nn.silu,
) -> Flow:
    """Spline couplings of angles, in [-pi, pi), and real numbers. Sampling and density both cost one pass.

    Each layer transforms half of the real coordinates, given all others, then half of the angles, given all others.
    Networks take cosines and sines of angles, and angles are transformed by circular splines, so densities are
    continuous on the circles.

    Args:
        dim: the number of coordinates.
        key: the key for the initial parameters and the permutations between layers.
        angles: True for the coordinates that are angles; by default all.
        num_layers: the number of layers.
        hidden: the widths of the hidden layers of each network.
        bins: the number of bins of each spline.
        bound: as in `nsf`, for the real coordinates.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, by default a standard normal. It must be standard normal in the coordinates of angles, because
            otherwise the density jumps at the ends.
        activation: the activation function of the networks.

    References:
        Rezende et al., Normalizing Flows on Tori and Spheres (2020). https://arxiv.org/abs/2002.02428
    """
    check_sizes(dim=dim, num_layers=num_layers)
    is_angle = np.ones(dim, bool) if angles is None else np.asarray(angles, bool)
    if is_angle.shape != (dim,):
        raise ValueError(f"angles must hold {dim} booleans, but has shape {is_angle.shape}.")
    # Inside the flow, real coordinates come first.
    order = np.argsort(is_angle, kind="stable")
    num_angles = int(is_angle.sum())
    num_real = dim - num_angles
    layer_key, real_key, angle_key = jr.split(key, 3)
    transformers = (
        (num_real, 0, spline(bins, bound)),
        (num_angles, num_real, CircularSpline(bins)),
    )

    def coupling(size: int, start: int, transformer: AbstractBijection, key: PRNGKeyArray) -> AbstractBijection:
        """A coupling that transforms the second half of the coordinates `start`, ..., `start + size - 1`."""
        mask = np.ones(dim, bool)
        mask[start + size // 2 : start + size] = False
        return Coupling(
            transformer,
            dim,
            hidden=hidden,
            mask=mask.tolist(),
            angles=is_angle[order].tolist(),
            cond_dim=cond_dim,
            activation=activation,
            key=key,
        )

    real_orders = layer_permutations(real_key, num_real, num_layers)
    angle_orders = layer_permutations(angle_key, num_angles, num_layers)
    layers = []
    for k, real_order, angle_order in zip(jr.split(layer_key, num_layers), real_orders, angle_orders, strict=True):
        parts = [
            coupling(size, start, transformer, jr.fold_in(k, start))
            for size, start, transformer in transformers
            if size
        ]
        layers.append(Chain([*parts, Permutation(jnp.concatenate([real_order, num_real + angle_order]))]))
    bijection = Chain([Permutation(order), Scan(layers), Permutation(np.argsort(order))])
    circles = [(-math.pi, math.pi) if angle else None for angle in is_angle]
    return Flow(base_or_normal(base, dim), OntoCircles(bijection, circles))
