"""Shared by the recipes: stacks of layers, the permutations between them, bases, and conditions."""

from collections.abc import Callable, Sequence
from typing import Literal

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, PRNGKeyArray

from pushforward.bijections import (
    MLP,
    AbstractBijection,
    Affine,
    Amortized,
    Chain,
    Invert,
    Permutation,
    RationalQuadraticSpline,
    Scan,
    num_parameters,
)
from pushforward.bijections.checks import check_sizes
from pushforward.flow import Flow, Learnable

Activation = Callable[[Array], Array]
Base = dist.Distribution | Learnable | None
Side = Literal["sampling", "density"]


def standard_normal(dim: int) -> dist.Distribution:
    """N(0, I), the default base."""
    return dist.Normal(jnp.zeros(dim), 1.0).to_event(1)


def base_or_normal(base: Base, dim: int) -> dist.Distribution | Learnable:
    """The given base, or a standard normal if it is None."""
    return standard_normal(dim) if base is None else base


def spline(bins: int, bound: float, affine: bool = True) -> AbstractBijection:
    """The transformer of spline flows: a spline, then an affine map if `affine`."""
    inside = RationalQuadraticSpline(bins, bound)
    return Chain([inside, Affine()]) if affine else inside


def given(
    bijection: AbstractBijection, cond_dim: int | None, hidden: Sequence[int], key: PRNGKeyArray
) -> AbstractBijection:
    """The bijection with arrays that depend on a condition; unchanged if `cond_dim` is None."""
    if cond_dim is None:
        return bijection
    check_sizes(cond_dim=cond_dim)
    network = MLP(cond_dim, num_parameters(bijection), hidden, key=jr.fold_in(key, 0))
    return Amortized(bijection, network, (cond_dim,))


def stack(
    layer: Callable[[PRNGKeyArray], AbstractBijection],
    dim: int,
    num_layers: int,
    base: Base,
    key: PRNGKeyArray,
    *,
    fast: Side = "sampling",
    mix: bool = True,
) -> Flow:
    """Layers of equal structure, inverted if `fast` is "density", each followed by a permutation if `mix`."""
    check_sizes(dim=dim, num_layers=num_layers)
    if fast not in ("sampling", "density"):
        raise ValueError(f'fast must be "sampling" or "density", but got {fast!r}.')
    layer_key, order_key = jr.split(key)
    layers = [layer(k) for k in jr.split(layer_key, num_layers)]
    if fast == "density":
        layers = [Invert(b) for b in layers]
    if mix and dim > 1:
        orders = mixing_orders(order_key, dim, num_layers)
        layers = [Chain([b, Permutation(order)]) for b, order in zip(layers, orders, strict=True)]
    return Flow(base_or_normal(base, dim), Scan(layers))


def then(flow: Flow, bijection: AbstractBijection, cond_dim: int | None, hidden: Sequence[int], key) -> Flow:
    """The flow followed by a bijection whose arrays may depend on the condition."""
    return Flow(flow.base, Chain([flow.bijection, given(bijection, cond_dim, hidden, jr.fold_in(key, 1))]))


def mixing_orders(key: PRNGKeyArray, dim: int, num_layers: int) -> list[np.ndarray | Array]:
    """Permutations after the layers, alternately a reversal and a random one.

    After a reversal, the conditioning coordinates are transformed, so that each pair of layers transforms all; the
    random permutations mix all coordinates.
    """
    reverse = np.arange(dim)[::-1]
    return [
        reverse if n % 2 == 0 or dim == 2 else jr.permutation(k, dim) for n, k in enumerate(jr.split(key, num_layers))
    ]
