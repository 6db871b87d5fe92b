"""The default flows for fitting posteriors, which start as a permutation of coordinates."""

from jaxtyping import PRNGKeyArray

from pushforward.bijections import Chain, Elementwise, RationalQuadraticSpline, Triangular
from pushforward.flow import Flow
from pushforward.flows.autoregressive import nsf, realnvp
from pushforward.flows.stack import standard_normal


def _hidden(dim: int) -> tuple[int, int]:
    width = max(32, min(2 * dim, 128))
    return width, width


def default_flow(dim: int, *, key: PRNGKeyArray) -> Flow:
    """Affine couplings, then an affine map that adjusts location and scale. It starts as a permutation.

    In one dimension, a spline replaces the couplings, which need at least two coordinates.

    Args:
        dim: the dimension.
        key: the key for the initial parameters.
    """
    if dim == 1:
        return Flow(standard_normal(1), Chain([Elementwise(RationalQuadraticSpline(16, 8.0), 1), Triangular(1)]))
    couplings = realnvp(dim, num_layers=12, hidden=_hidden(dim), key=key)
    return Flow(couplings.base, Chain([couplings.bijection, Triangular(dim)]))


def spline_flow(dim: int, *, key: PRNGKeyArray) -> Flow:
    """Spline couplings, then an affine map: more flexible than affine couplings, but slower.

    Args:
        dim: the dimension.
        key: the key for the initial parameters.
    """
    couplings = nsf(dim, num_layers=6, hidden=_hidden(dim), affine=False, key=key)
    return Flow(couplings.base, Chain([couplings.bijection, Triangular(dim)]))
