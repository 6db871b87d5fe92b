"""Low-rank, contractive and continuous flows."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from pushforward.arguments import Range, checked
from pushforward.bijections import (
    AbstractLogDet,
    Continuous,
    Contractive,
    Planar,
    Radial,
    Sylvester,
    Triangular,
    TriangularSylvester,
)
from pushforward.bijections.activations import lipswish
from pushforward.bijections.checks import check_sizes
from pushforward.flow import Flow
from pushforward.flows.stack import Activation, Base, Direction, append_bijection, base_or_normal, conditional, stack


@checked()
def planar(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 16,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = jnp.tanh,
    max_slope: float | None = None,
    fast: Direction = "sampling",
) -> Flow:
    r"""Planar layers, $x = u + v\,h(w^\top u + b)$.

    The fast direction is a closed form; the other direction solves a scalar equation per layer.

    Args:
        dim: the dimension.
        key: the key for the initial parameters.
        num_layers: the number of layers.
        hidden: the widths of the hidden layers of the network for the condition, if there is one.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.
        activation: the smooth, increasing function of each layer.
        max_slope: the largest slope of `activation`; needed only for a custom one.
        fast: the faster direction, "sampling" or "density".

    References:
        Rezende and Mohamed, Variational Inference with Normalizing Flows (2015), section 4.1.
        https://arxiv.org/abs/1505.05770
    """

    def layer(key):
        return conditional(Planar(dim, activation=activation, max_slope=max_slope, key=key), cond_dim, hidden, key)

    return stack(layer, dim, num_layers, base, key, fast=fast, permute=False)


@checked()
def radial(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 16,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
    fast: Direction = "sampling",
) -> Flow:
    r"""Radial layers, which contract or expand space around a point. Both directions are closed forms.

    Args:
        dim: the dimension.
        key: the key for the initial parameters.
        num_layers: the number of layers.
        hidden: the widths of the hidden layers of the network for the condition, if there is one.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.
        fast: the faster direction, "sampling" or "density".

    References:
        Rezende and Mohamed (2015), equation 14. https://arxiv.org/abs/1505.05770
    """

    def layer(key):
        return conditional(Radial(dim, key=key), cond_dim, hidden, key)

    return stack(layer, dim, num_layers, base, key, fast=fast, permute=False)


@checked()
def sylvester(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 8,
    num_units: int | None = None,
    triangular: bool = True,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = jnp.tanh,
    max_slope: float | None = None,
    fast: Direction = "sampling",
) -> Flow:
    r"""Sylvester layers, $x = u + V h(W^\top u + b)$ with `num_units` hidden units.

    The fast direction is a closed form. The other direction solves `num_units` scalar equations one after the other
    if `triangular`, otherwise a system of `num_units` equations.

    Args:
        dim: the dimension.
        key: the key for the initial parameters.
        num_layers: the number of layers.
        num_units: the number of hidden units of a layer, at most `dim`; by default the smaller of `dim` and 32.
        triangular: whether to use `TriangularSylvester`; otherwise `Sylvester`.
        hidden: the widths of the hidden layers of the network for the condition, if there is one.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.
        activation: the smooth, increasing function of each layer.
        max_slope: the largest slope of `activation`; needed only for a custom one.
        fast: the faster direction, "sampling" or "density".

    References:
        van den Berg et al., Sylvester Normalizing Flows for Variational Inference (2018).
        https://arxiv.org/abs/1803.05649
    """
    kind, units = (TriangularSylvester if triangular else Sylvester), (min(dim, 32) if num_units is None else num_units)

    def layer(key):
        return conditional(kind(dim, units, activation=activation, max_slope=max_slope, key=key), cond_dim, hidden, key)

    return stack(layer, dim, num_layers, base, key, fast=fast, permute=False)


@checked(lipschitz=Range(0, 1, open=True))
def residual(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 8,
    hidden: Sequence[int] = (64, 64),
    lipschitz: float = 0.9,
    log_det: AbstractLogDet | None = None,
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = lipswish,
    max_slope: float | None = None,
    fast: Direction = "sampling",
) -> Flow:
    r"""Contractive residual layers, $x = u + g(u)$ with $\mathrm{Lip}(g) < 1$, then an affine map.

    The fast direction costs one pass; the other direction takes accelerated fixed-point iterations. The exact
    log-determinant costs `dim` passes; `log_det=RussianRoulette()` trains with an unbiased estimate instead, for many
    dimensions.

    Args:
        dim: the dimension.
        key: the key for the initial parameters.
        num_layers: the number of layers.
        hidden: the widths of the hidden layers of each layer's contractive network.
        lipschitz: the largest Lipschitz constant of a layer's network, below 1.
        log_det: the method to compute the log-determinant, by default exactly.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.
        activation: the activation function of the networks.
        max_slope: the largest slope of `activation`; needed only for a custom one.
        fast: the faster direction, "sampling" or "density".

    References:
        Behrmann et al., Invertible Residual Networks (2019). https://arxiv.org/abs/1811.00995
        Chen et al., Residual Flows for Invertible Generative Modeling (2019). https://arxiv.org/abs/1906.02735
    """

    def layer(key):
        return Contractive(
            dim,
            hidden,
            lipschitz=lipschitz,
            log_det=log_det,
            cond_dim=cond_dim,
            activation=activation,
            max_slope=max_slope,
            key=key,
        )

    flow = stack(layer, dim, num_layers, base, key, fast=fast, permute=False)
    return append_bijection(flow, Triangular(dim), cond_dim, hidden, key)


@checked()
def continuous(
    dim: int,
    *,
    key: PRNGKeyArray,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = jnp.tanh,
    **options,
) -> Flow:
    """The flow of an ordinary differential equation. Both directions cost one solve.

    Args:
        dim: the dimension.
        key: the key for the initial parameters.
        hidden: the widths of the hidden layers of the vector field's network.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.
        activation: the activation function of the network.
        **options: further arguments of `Continuous`: tolerances, max_steps, solver, hutchinson.

    References:
        Grathwohl et al., FFJORD (2019). https://arxiv.org/abs/1810.01367
    """
    check_sizes(dim=dim)
    return Flow(
        base_or_normal(base, dim), Continuous(dim, hidden, cond_dim=cond_dim, activation=activation, key=key, **options)
    )
