"""The flow that posteriors are fitted with."""

from jaxtyping import PRNGKeyArray

from pushforward.bijections import Chain, Elementwise, RationalQuadraticSpline, Triangular
from pushforward.flow import Flow
from pushforward.flows.autoregressive import realnvp
from pushforward.flows.stack import standard_normal


def default_flow(dim: int, *, key: PRNGKeyArray) -> Flow:
    """Affine couplings that begin as the identity, and an affine map on top, for what is left of location and scale.

    One coordinate has no other that could bend it: there it is a spline.
    """
    if dim == 1:
        return Flow(standard_normal(1), Chain([Elementwise(RationalQuadraticSpline(16, 8.0), 1), Triangular(1)]))
    width = max(32, min(2 * dim, 128))
    couplings = realnvp(dim, num_layers=12, hidden=(width, width), key=key)
    return Flow(couplings.base, Chain([couplings.bijection, Triangular(dim)]))
