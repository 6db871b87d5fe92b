"""Flows of transformers and conditioners: couplings and masked autoregressive layers."""

from collections.abc import Callable, Sequence

import jax
from jaxtyping import PRNGKeyArray

from pushforward.arguments import POSITIVE, checked
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
from pushforward.flows.stack import Activation, Base, Direction, append_bijection, spline, stack


def _layer(conditioner: type, transformer: AbstractBijection, dim: int, hidden, cond_dim, activation) -> Callable:
    """A function from a key to a layer."""

    def layer(key: PRNGKeyArray) -> AbstractBijection:
        return conditioner(transformer, dim, hidden=hidden, cond_dim=cond_dim, activation=activation, key=key)

    return layer


@checked()
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
    r"""Additive couplings, $x_B = u_B + m(u_A)$, then one scale per coordinate. Both directions cost one pass.

    The couplings preserve volumes.

    Args:
        dim: the dimension.
        key: the key for the initial parameters and the permutations between layers.
        num_layers: the number of layers.
        hidden: the widths of the hidden layers of each layer's network.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.
        activation: the activation function of the networks.

    References:
        Dinh et al., NICE: Non-linear Independent Components Estimation (2015). https://arxiv.org/abs/1410.8516
    """
    layer = _layer(Coupling, Shift(), dim, hidden, cond_dim, activation)
    flow = stack(layer, dim, num_layers, base, key)
    return append_bijection(flow, Elementwise(Affine(), dim), cond_dim, hidden, key)


@checked()
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
    r"""Affine couplings, $x_B = s(u_A)\,u_B + t(u_A)$. Sampling and density both cost one pass.

    Permutations between the layers exchange the halves A and B.

    Args:
        dim: the dimension.
        key: the key for the initial parameters and the permutations between layers.
        num_layers: the number of layers.
        hidden: the widths of the hidden layers of each layer's network.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.
        activation: the activation function of the networks.

    References:
        Dinh et al., Density Estimation Using Real NVP (2017). https://arxiv.org/abs/1605.08803
    """
    layer = _layer(Coupling, Affine(), dim, hidden, cond_dim, activation)
    return stack(layer, dim, num_layers, base, key)


@checked(bound=POSITIVE)
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
    r"""Couplings of rational-quadratic splines. Sampling and density both cost one pass.

    Args:
        dim: the dimension.
        key: the key for the initial parameters and the permutations between layers.
        num_layers: the number of layers.
        hidden: the widths of the hidden layers of each layer's network.
        bins: the number of bins of each spline.
        bound: the splines act on [-bound, bound] in the coordinates of their layer.
        affine: whether an affine map follows each spline. It is not in the paper; it moves and scales all values,
            also those outside of the bound. Without it, training by reverse KL is more stable, but the target must be
            about as wide as the base.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.
        activation: the activation function of the networks.

    References:
        Durkan et al., Neural Spline Flows (2019). https://arxiv.org/abs/1906.04032

    Examples:
        >>> import jax, pushforward as pf
        >>> flow = pf.flows.nsf(2, key=jax.random.key(0), num_layers=2, hidden=(8,))
        >>> x, log_prob = flow.sample_and_log_prob(jax.random.key(1), (5,))
        >>> x.shape, log_prob.shape
        ((5, 2), (5,))
    """
    layer = _layer(Coupling, spline(bins, bound, affine), dim, hidden, cond_dim, activation)
    return stack(layer, dim, num_layers, base, key)


@checked(bound=POSITIVE)
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
    fast: Direction = "sampling",
) -> Flow:
    r"""Masked autoregressive layers of rational-quadratic splines. The fast direction costs one pass.

    The other direction takes Jacobi iterations (all coordinates in parallel), at most `dim` per layer. With many bins,
    two layers suffice for sharp densities of a few coordinates.

    Args:
        dim: the dimension.
        key: the key for the initial parameters and the permutations between layers.
        num_layers: the number of layers.
        hidden: the widths of the hidden layers of each layer's network.
        bins: the number of bins of each spline.
        bound: the splines act on [-bound, bound] in the coordinates of their layer.
        affine: whether an affine map follows each spline, as in `nsf`.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.
        activation: the activation function of the networks.
        fast: the direction that costs one pass, "sampling" or "density".

    References:
        Durkan et al., Neural Spline Flows (2019), RQ-NSF (AR). https://arxiv.org/abs/1906.04032
    """
    layer = _layer(MaskedAutoregressive, spline(bins, bound, affine), dim, hidden, cond_dim, activation)
    return stack(layer, dim, num_layers, base, key, fast=fast)


@checked()
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
    r"""Masked affine autoregressive layers, $u_i = (x_i - t(x_{<i})) / s(x_{<i})$. The density costs one pass.

    Sampling takes Jacobi iterations (all coordinates in parallel), at most `dim` per layer.

    Args:
        dim: the dimension.
        key: the key for the initial parameters and the permutations between layers.
        num_layers: the number of layers.
        hidden: the widths of the hidden layers of each layer's network.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.
        activation: the activation function of the networks.

    References:
        Papamakarios et al., Masked Autoregressive Flow for Density Estimation (2017). https://arxiv.org/abs/1705.07057
    """
    layer = _layer(MaskedAutoregressive, Affine(), dim, hidden, cond_dim, activation)
    return stack(layer, dim, num_layers, base, key, fast="density")


@checked()
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
    r"""Masked affine autoregressive layers, $x_i = s(u_{<i})\,u_i + t(u_{<i})$. Sampling costs one pass.

    The density at given points takes Jacobi iterations (all coordinates in parallel), at most `dim` per layer.

    Args:
        dim: the dimension.
        key: the key for the initial parameters and the permutations between layers.
        num_layers: the number of layers.
        hidden: the widths of the hidden layers of each layer's network.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.
        activation: the activation function of the networks.

    References:
        Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow (2016).
        https://arxiv.org/abs/1606.04934
    """
    layer = _layer(MaskedAutoregressive, Affine(), dim, hidden, cond_dim, activation)
    return stack(layer, dim, num_layers, base, key)


@checked()
def naf(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 3,
    num_units: int = 16,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = jax.nn.silu,
    fast: Direction = "sampling",
) -> Flow:
    r"""Masked autoregressive layers of deep sigmoidal transformers. The fast direction costs one pass.

    The other direction finds `dim` scalar roots per layer, one after the other.

    Args:
        dim: the dimension.
        key: the key for the initial parameters and the permutations between layers.
        num_layers: the number of layers.
        num_units: the number of sigmoids of each transformer.
        hidden: the widths of the hidden layers of each layer's network.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.
        activation: the activation function of the networks.
        fast: the direction that costs one pass, "sampling" or "density".

    References:
        Huang et al., Neural Autoregressive Flows (2018). https://arxiv.org/abs/1804.00779
    """
    layer = _layer(MaskedAutoregressive, DeepSigmoidal(num_units), dim, hidden, cond_dim, activation)
    return stack(layer, dim, num_layers, base, key, fast=fast)


@checked()
def unaf(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 3,
    num_units: int = 8,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
    activation: Activation = jax.nn.silu,
    fast: Direction = "sampling",
) -> Flow:
    r"""Masked autoregressive layers of integrals of positive networks. The fast direction costs one pass.

    The other direction finds `dim` scalar roots per layer, one after the other.

    Args:
        dim: the dimension.
        key: the key for the initial parameters and the permutations between layers.
        num_layers: the number of layers.
        num_units: the number of hidden units of each integrated network.
        hidden: the widths of the hidden layers of each layer's network.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.
        activation: the activation function of the networks.
        fast: the direction that costs one pass, "sampling" or "density".

    References:
        Wehenkel and Louppe, Unconstrained Monotonic Neural Networks (2019). https://arxiv.org/abs/1908.05164
    """
    layer = _layer(MaskedAutoregressive, IntegralNetwork(num_units), dim, hidden, cond_dim, activation)
    return stack(layer, dim, num_layers, base, key, fast=fast)
