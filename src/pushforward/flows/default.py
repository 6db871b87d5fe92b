"""The flows that posteriors are fitted with, which begin as a reordering of coordinates."""

from jaxtyping import PRNGKeyArray

from pushforward.bijections import Chain, Elementwise, RationalQuadraticSpline, Triangular
from pushforward.flow import Flow
from pushforward.flows.autoregressive import nsf, realnvp
from pushforward.flows.stack import standard_normal


def _hidden(dim: int) -> tuple[int, int]:
    width = max(32, min(2 * dim, 128))
    return width, width


def default_flow(dim: int, *, key: PRNGKeyArray) -> Flow:
    """Affine couplings that begin as the identity, followed by an affine map, which corrects location and scale.

    In one dimension there is no coordinate to depend on; there it is a spline.

    Args:
        dim: the dimension.
        key: for the initial parameters.
    """
    if dim == 1:
        return Flow(standard_normal(1), Chain([Elementwise(RationalQuadraticSpline(16, 8.0), 1), Triangular(1)]))
    couplings = realnvp(dim, num_layers=12, hidden=_hidden(dim), key=key)
    return Flow(couplings.base, Chain([couplings.bijection, Triangular(dim)]))


def spline_flow(dim: int, *, key: PRNGKeyArray) -> Flow:
    """Couplings of splines, and an affine map on top: sharper shapes than affine couplings make, for more time."""
    couplings = nsf(dim, num_layers=6, hidden=_hidden(dim), affine=False, key=key)
    return Flow(couplings.base, Chain([couplings.bijection, Triangular(dim)]))
