"""Transformers and conditioners: couplings and masked autoregressive layers."""

from collections.abc import Callable, Sequence

import jax
from jaxtyping import PRNGKeyArray

from pushforward.bijections import (
    AbstractBijection,
    Affine,
    Coupling,
    DeepSigmoidal,
    Elementwise,
    IntegralNetwork,
    MaskedAutoregressive,
    Shift,
)
from pushforward.flow import Flow
from pushforward.flows.stack import Activation, Base, Side, spline, stack, then


def _layer(conditioner: type, transformer: AbstractBijection, dim: int, hidden, cond_dim, activation) -> Callable:
    """How to make a layer from a key."""

    def layer(key: PRNGKeyArray) -> AbstractBijection:
        return conditioner(transformer, dim, hidden=hidden, cond_dim=cond_dim, activation=activation, key=key)

    return layer


def nice(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 8,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = jax.nn.silu,
) -> Flow:
    """Additive couplings, which keep volumes, then one scale for each coordinate. Both directions cost one pass.

    References:
        Dinh et al., NICE: Non-linear Independent Components Estimation (2015). https://arxiv.org/abs/1410.8516
    """
    layer = _layer(Coupling, Shift(), dim, hidden, cond_dim, activation)
    flow = stack(layer, dim, num_layers, base, key)
    return then(flow, Elementwise(Affine(), dim), cond_dim, hidden, key)


def realnvp(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 8,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = jax.nn.silu,
) -> Flow:
    """Affine couplings with permutations between them. Sampling and density both cost one pass.

    References:
        Dinh et al., Density Estimation Using Real NVP (2017). https://arxiv.org/abs/1605.08803
    """
    layer = _layer(Coupling, Affine(), dim, hidden, cond_dim, activation)
    return stack(layer, dim, num_layers, base, key)


def nsf(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 6,
    hidden: Sequence[int] = (64, 64),
    bins: int = 8,
    bound: float = 5.0,
    affine: bool = True,
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = jax.nn.silu,
) -> Flow:
    """Couplings of rational-quadratic splines, each followed by an affine map. Sampling and density both cost one pass.

    The spline acts on [-bound, bound] in the coordinates of its layer; the affine map, which is not in the paper, moves
    and scales what is inside and what is beyond. Without it (`affine=False`) training by the reverse KL is steadier,
    but the target must then be about as wide as the base.

    References:
        Durkan et al., Neural Spline Flows (2019). https://arxiv.org/abs/1906.04032
    """
    layer = _layer(Coupling, spline(bins, bound, affine), dim, hidden, cond_dim, activation)
    return stack(layer, dim, num_layers, base, key)


def arnsf(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 3,
    hidden: Sequence[int] = (64, 64),
    bins: int = 8,
    bound: float = 5.0,
    affine: bool = True,
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = jax.nn.silu,
    fast: Side = "sampling",
) -> Flow:
    """Masked autoregressive layers of rational-quadratic splines and affine maps; the other side takes sweeps.

    With many bins, two layers are enough for sharp densities of a few coordinates. `affine` as in `nsf`.

    References:
        Durkan et al., Neural Spline Flows (2019), RQ-NSF (AR). https://arxiv.org/abs/1906.04032
    """
    layer = _layer(MaskedAutoregressive, spline(bins, bound, affine), dim, hidden, cond_dim, activation)
    return stack(layer, dim, num_layers, base, key, fast=fast)


def maf(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 5,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = jax.nn.silu,
) -> Flow:
    """Masked affine autoregressive layers whose density costs one pass; sampling takes parallel sweeps.

    References:
        Papamakarios et al., Masked Autoregressive Flow for Density Estimation (2017). https://arxiv.org/abs/1705.07057
    """
    layer = _layer(MaskedAutoregressive, Affine(), dim, hidden, cond_dim, activation)
    return stack(layer, dim, num_layers, base, key, fast="density")


def iaf(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 5,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = jax.nn.silu,
) -> Flow:
    """Masked affine autoregressive layers whose sampling costs one pass; the density of given points takes sweeps.

    References:
        Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow (2016).
        https://arxiv.org/abs/1606.04934
    """
    layer = _layer(MaskedAutoregressive, Affine(), dim, hidden, cond_dim, activation)
    return stack(layer, dim, num_layers, base, key)


def naf(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 3,
    units: int = 16,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = jax.nn.silu,
    fast: Side = "sampling",
) -> Flow:
    """Masked autoregressive layers of deep sigmoidal transformers. The side that is not `fast` takes sweeps of roots.

    References:
        Huang et al., Neural Autoregressive Flows (2018). https://arxiv.org/abs/1804.00779
    """
    layer = _layer(MaskedAutoregressive, DeepSigmoidal(units), dim, hidden, cond_dim, activation)
    return stack(layer, dim, num_layers, base, key, fast=fast)


def unaf(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 3,
    units: int = 8,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = jax.nn.silu,
    fast: Side = "sampling",
) -> Flow:
    """Masked autoregressive layers that integrate positive networks. The side that is not `fast` takes sweeps of roots.

    References:
        Wehenkel and Louppe, Unconstrained Monotonic Neural Networks (2019). https://arxiv.org/abs/1908.05164
    """
    layer = _layer(MaskedAutoregressive, IntegralNetwork(units), dim, hidden, cond_dim, activation)
    return stack(layer, dim, num_layers, base, key, fast=fast)
