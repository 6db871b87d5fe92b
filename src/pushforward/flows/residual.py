"""Low-rank, contractive and continuous flows."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

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
from pushforward.flows.stack import Activation, Base, Side, base_or_normal, given, stack, then


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
    fast: Side = "sampling",
) -> Flow:
    """Planar layers, each bending space along one direction. The side that is not `fast` solves scalar equations.

    References:
        Rezende and Mohamed, Variational Inference with Normalizing Flows (2015), section 4.1.
        https://arxiv.org/abs/1505.05770
    """

    def layer(key):
        return given(Planar(dim, activation=activation, max_slope=max_slope, key=key), cond_dim, hidden, key)

    return stack(layer, dim, num_layers, base, key, fast=fast, mix=False)


def radial(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 16,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
    fast: Side = "sampling",
) -> Flow:
    """Radial layers, each of which draws space to a point or drives it away. Both directions are closed forms.

    References:
        Rezende and Mohamed (2015), equation 14. https://arxiv.org/abs/1505.05770
    """

    def layer(key):
        return given(Radial(dim, key=key), cond_dim, hidden, key)

    return stack(layer, dim, num_layers, base, key, fast=fast, mix=False)


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
    fast: Side = "sampling",
) -> Flow:
    """Sylvester layers, each with a bottleneck of `num_units` (by default `dim`, at most 32).

    The side that is not `fast` solves `num_units` equations: one after the other if `triangular`, else together.

    References:
        van den Berg et al., Sylvester Normalizing Flows for Variational Inference (2018).
        https://arxiv.org/abs/1803.05649
    """
    kind, units = (TriangularSylvester if triangular else Sylvester), (min(dim, 32) if num_units is None else num_units)

    def layer(key):
        return given(kind(dim, units, activation=activation, max_slope=max_slope, key=key), cond_dim, hidden, key)

    return stack(layer, dim, num_layers, base, key, fast=fast, mix=False)


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
    fast: Side = "sampling",
) -> Flow:
    """Contractive residual layers, then an affine map. The side that is not `fast` takes accelerated fixed points.

    The log-determinant is exact, at `dim` passes of the network; `log_det=RussianRoulette()` trains with an unbiased
    estimate instead, for many dimensions.

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

    flow = stack(layer, dim, num_layers, base, key, fast=fast, mix=False)
    return then(flow, Triangular(dim), cond_dim, hidden, key)


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
    """The flow of an ordinary differential equation. Both directions cost one solution.

    Args:
        dim: the dimension.
        key: for the network's initial weights.
        hidden: widths of the hidden layers of the vector field's network.
        cond_dim: the size of a condition.
        base: by default a standard normal.
        activation: of the network.
        **options: of `Continuous`: tolerances, solver, hutchinson.

    References:
        Grathwohl et al., FFJORD (2019). https://arxiv.org/abs/1810.01367
    """
    check_sizes(dim=dim)
    return Flow(
        base_or_normal(base, dim), Continuous(dim, hidden, cond_dim=cond_dim, activation=activation, key=key, **options)
    )
