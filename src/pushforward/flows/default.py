"""The flow that posteriors are fitted with."""

from jaxtyping import PRNGKeyArray

from pushforward.bijections import Chain, Triangular
from pushforward.flow import Flow
from pushforward.flows.autoregressive import realnvp


def default_flow(dim: int, *, key: PRNGKeyArray) -> Flow:
    """Affine couplings that begin as the identity, and an affine map on top, for what is left of location and scale."""
    width = max(32, min(2 * dim, 128))
    couplings = realnvp(dim, num_layers=12, hidden=(width, width), key=key)
    return Flow(couplings.base, Chain([couplings.bijection, Triangular(dim)]))
