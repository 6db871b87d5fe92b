"""Recipes: the field's flows by their names, each a few lines over shared parts. Each starts as the identity.

All take `dim`, a `key`, `cond_dim` for a conditional flow, and `base` (by default a standard normal).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, PRNGKeyArray

from pushforward.bijections import (
    AbstractBijection,
    Affine,
    Chain,
    Coupling,
    Invert,
    MaskedAutoregressive,
    Permutation,
    RationalQuadraticSpline,
    Scan,
)
from pushforward.flow import Flow, Learnable

Activation = Callable[[Array], Array]


def realnvp(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 8,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: dist.Distribution | Learnable | None = None,
    activation: Activation = jax.nn.silu,
) -> Flow:
    """Affine couplings with permutations between them. Sampling and density both cost one pass.

    References:
        Dinh et al., Density Estimation Using Real NVP (2017). https://arxiv.org/abs/1605.08803
    """

    def layer(key):
        return Coupling(Affine(), dim, hidden=hidden, cond_dim=cond_dim, activation=activation, key=key)

    return _stack(layer, dim, num_layers, base, key)


def nsf(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 6,
    hidden: Sequence[int] = (64, 64),
    bins: int = 8,
    bound: float = 5.0,
    cond_dim: int | None = None,
    base: dist.Distribution | Learnable | None = None,
    activation: Activation = jax.nn.silu,
) -> Flow:
    """Rational-quadratic spline couplings. Sampling and density both cost one pass.

    References:
        Durkan et al., Neural Spline Flows (2019). https://arxiv.org/abs/1906.04032
    """
    spline = RationalQuadraticSpline(bins, bound)

    def layer(key):
        return Coupling(spline, dim, hidden=hidden, cond_dim=cond_dim, activation=activation, key=key)

    return _stack(layer, dim, num_layers, base, key)


def maf(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 5,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: dist.Distribution | Learnable | None = None,
    activation: Activation = jax.nn.silu,
) -> Flow:
    """Masked affine autoregressive layers whose density costs one pass; sampling takes parallel sweeps.

    References:
        Papamakarios et al., Masked Autoregressive Flow for Density Estimation (2017). https://arxiv.org/abs/1705.07057
    """

    def layer(key):
        return Invert(
            MaskedAutoregressive(Affine(), dim, hidden=hidden, cond_dim=cond_dim, activation=activation, key=key)
        )

    return _stack(layer, dim, num_layers, base, key)


def iaf(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 5,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: dist.Distribution | Learnable | None = None,
    activation: Activation = jax.nn.silu,
) -> Flow:
    """Masked affine autoregressive layers whose sampling costs one pass; the density of given points takes sweeps.

    References:
        Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow (2016).
        https://arxiv.org/abs/1606.04934
    """

    def layer(key):
        return MaskedAutoregressive(Affine(), dim, hidden=hidden, cond_dim=cond_dim, activation=activation, key=key)

    return _stack(layer, dim, num_layers, base, key)


def standard_normal(dim: int) -> dist.Distribution:
    """N(0, I), the default base."""
    return dist.Normal(jnp.zeros(dim), 1.0).to_event(1)


def _stack(
    layer: Callable[[PRNGKeyArray], AbstractBijection],
    dim: int,
    num_layers: int,
    base: dist.Distribution | Learnable | None,
    key: PRNGKeyArray,
) -> Flow:
    if dim < 1 or num_layers < 1:
        raise ValueError(f"a flow needs dim >= 1 and num_layers >= 1, got dim={dim}, num_layers={num_layers}.")
    layer_key, order_key = jr.split(key)
    layers = [layer(k) for k in jr.split(layer_key, num_layers)]
    if dim > 1:
        orders = mixing_orders(order_key, dim, num_layers)
        layers = [Chain([b, Permutation(order)]) for b, order in zip(layers, orders, strict=True)]
    return Flow(standard_normal(dim) if base is None else base, Scan(layers))


def mixing_orders(key: PRNGKeyArray, dim: int, num_layers: int) -> list[np.ndarray]:
    """Permutations to follow the layers: by turns a reversal and a random one.

    After a reversal the coordinates that conditioned are conditioned, so that every pair of layers treats all; the
    random ones see to it that all coordinates meet.
    """
    reverse = np.arange(dim)[::-1]
    return [
        reverse if n % 2 == 0 or dim == 2 else np.asarray(jr.permutation(k, dim))
        for n, k in enumerate(jr.split(key, num_layers))
    ]
