"""Flows without networks: affine maps, and splines between rotations."""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import PRNGKeyArray

from pushforward.arguments import POSITIVE, checked
from pushforward.bijections import PLU, QR, Chain, Elementwise, Orthogonal, RationalQuadraticSpline, Triangular
from pushforward.bijections.checks import check_sizes
from pushforward.flow import Flow
from pushforward.flows.stack import Base, append_bijection, base_or_normal, conditional, stack


@checked()
def linear(
    dim: int,
    *,
    key: PRNGKeyArray,
    factors: Literal["triangular", "plu", "qr"] = "triangular",
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
) -> Flow:
    """One affine map: with a normal base, a Gaussian with any covariance. Both directions cost the same.

    Args:
        dim: the dimension.
        key: the key for the initial parameters.
        factors: the factorization of the matrix: `Triangular`, `PLU` or `QR`.
        hidden: the widths of the hidden layers of the network for the condition, if there is one.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.
    """
    makers = {"triangular": lambda: Triangular(dim), "plu": lambda: PLU(dim, key=key), "qr": lambda: QR(dim, key=key)}
    if factors not in makers:
        raise ValueError(f"factors must be one of {', '.join(makers)}, but got {factors!r}.")
    check_sizes(dim=dim)
    return Flow(base_or_normal(base, dim), conditional(makers[factors](), cond_dim, hidden, key))


@checked(bound=POSITIVE)
def gaussianization(
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 8,
    bins: int = 16,
    bound: float = 5.0,
    hidden: Sequence[int] = (64, 64),
    cond_dim: int | None = None,
    base: Base = None,
) -> Flow:
    r"""Rotations that alternate with elementwise splines, then an affine map. Both directions cost one pass.

    Args:
        dim: the dimension.
        key: the key for the initial parameters.
        num_layers: the number of layers.
        bins: the number of bins of each spline.
        bound: the splines act on [-bound, bound] in the coordinates of their layer.
        hidden: the widths of the hidden layers of the network for the condition, if there is one.
        cond_dim: the size of the condition; None for an unconditional flow.
        base: the base, a NumPyro distribution of shape (dim,) or `Learnable`; by default a standard normal.

    References:
        Meng et al., Gaussianization Flows (2020). https://arxiv.org/abs/2003.01941
    """

    def layer(key):
        spline = Elementwise(RationalQuadraticSpline(bins, bound), dim)
        return conditional(Chain([Orthogonal(dim, key=key), spline]), cond_dim, hidden, key)

    flow = stack(layer, dim, num_layers, base, key, permute=False)
    return append_bijection(flow, Triangular(dim), cond_dim, hidden, key)
