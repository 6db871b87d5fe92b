"""The common parts of the recipes: stacks of layers, the permutations between them, bases, and conditions."""

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
Direction = Literal["sampling", "density"]


def standard_normal(dim: int) -> dist.Distribution:
    """N(0, I), the default base.

    Args:
        dim: the dimension.
    """
    return dist.Normal(jnp.zeros(dim), 1.0).to_event(1)


def base_or_normal(base: Base, dim: int) -> dist.Distribution | Learnable:
    """The base, or a standard normal if it is None.

    Args:
        base: the argument `base` of a recipe.
        dim: the dimension.
    """
    return standard_normal(dim) if base is None else base


def spline(bins: int, bound: float, affine: bool = True) -> AbstractBijection:
    """The transformer of spline flows: a spline, then an affine map if `affine`.

    Args:
        bins: the number of bins.
        bound: the spline acts on [-bound, bound].
        affine: whether an affine map follows the spline.
    """
    inside = RationalQuadraticSpline(bins, bound)
    return Chain([inside, Affine()]) if affine else inside


def conditional(
    bijection: AbstractBijection, cond_dim: int | None, hidden: Sequence[int], key: PRNGKeyArray
) -> AbstractBijection:
    """The bijection whose parameters are the output of a network of the condition; unchanged if `cond_dim` is None.

    Args:
        bijection: the bijection; its parameters are the output of the network at its initialization.
        cond_dim: the size of the condition, or None.
        hidden: the widths of the hidden layers of the network.
        key: the key for the initial parameters of the network.
    """
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
    fast: Direction = "sampling",
    permute: bool = True,
) -> Flow:
    """A flow of layers of equal structure, inverted if `fast` is "density".

    Args:
        layer: a function from a key to a layer; its forward direction is the faster one.
        dim: the dimension.
        num_layers: the number of layers.
        base: the base; by default a standard normal.
        key: the key for the initial parameters and the permutations.
        fast: the faster direction of the flow, "sampling" or "density".
        permute: whether a permutation follows each layer.
    """
    check_sizes(dim=dim, num_layers=num_layers)
    if fast not in ("sampling", "density"):
        raise ValueError(f'fast must be "sampling" or "density", but got {fast!r}.')
    layer_key, order_key = jr.split(key)
    arguments = [jr.split(layer_key, num_layers)]
    if permute and dim > 1:
        arguments.append(jnp.stack([*map(jnp.asarray, layer_permutations(order_key, dim, num_layers))]))

    def permuted_layer(key: PRNGKeyArray, *order: Array) -> AbstractBijection:
        one = Invert(layer(key)) if fast == "density" else layer(key)
        return Chain([one, Permutation(*order)]) if order else one

    return Flow(base_or_normal(base, dim), Scan.each(permuted_layer, *arguments))


def append_bijection(
    flow: Flow, bijection: AbstractBijection, cond_dim: int | None, hidden: Sequence[int], key: PRNGKeyArray
) -> Flow:
    """The flow followed by a bijection; if there is a condition, the parameters of the bijection depend on it.

    Args:
        flow: the flow.
        bijection: the bijection to append.
        cond_dim: the size of the condition, or None.
        hidden: the widths of the hidden layers of the network for the condition.
        key: the key of the recipe.
    """
    return Flow(flow.base, Chain([flow.bijection, conditional(bijection, cond_dim, hidden, jr.fold_in(key, 1))]))


def layer_permutations(key: PRNGKeyArray, dim: int, num_layers: int) -> list[np.ndarray | Array]:
    """Permutations after the layers, alternately a reversal and a random one.

    After a reversal, the next layer transforms the coordinates that the previous one did not, so that each pair of
    layers transforms all coordinates; the random permutations change the halves.

    Args:
        key: the key for the random permutations.
        dim: the dimension.
        num_layers: the number of layers.
    """
    reverse = np.arange(dim)[::-1]
    return [
        reverse if n % 2 == 0 or dim == 2 else jr.permutation(k, dim) for n, k in enumerate(jr.split(key, num_layers))
    ]
