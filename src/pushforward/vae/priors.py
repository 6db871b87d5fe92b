r"""Priors $p(u)$ by name. Any other flow without condition can be a VAE's prior too."""

from collections.abc import Sequence

import jax.numpy as jnp
import jax.random as jr
import numpyro.distributions as dist
from jaxtyping import PRNGKeyArray

from pushforward import flows
from pushforward.arguments import FROM_ZERO, checked
from pushforward.bijections import Identity
from pushforward.flow import Flow, Learnable
from pushforward.flows.stack import standard_normal

PRIORS = ("normal", "mixture", "realnvp", "maf", "nsf")


@checked(num_layers=FROM_ZERO)
def prior(
    family: str,
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 4,
    hidden: Sequence[int] = (64,),
    num_components: int = 50,
) -> Flow:
    r"""A flow for $p(u)$ with a cheap density.

    Args:
        family: "normal", the standard normal, which is not trained; "mixture", a mixture of Gaussians with equal
            initial weights, like a VampPrior with free components; or a flow, "realnvp", "maf" or "nsf".
        dim: the dimension of the latent space.
        key: the key for the initial parameters.
        num_layers: the number of layers of a flow.
        hidden: the widths of the hidden layers of a flow.
        num_components: the number of components of a mixture.

    Raises:
        ValueError: for an unknown family or a mixture without components.

    References:
        Tomczak and Welling, VAE with a VampPrior (2018). https://arxiv.org/abs/1705.07120
        Chen et al., Variational Lossy Autoencoder (2017), section 3.2. https://arxiv.org/abs/1611.02731
    """
    if family not in PRIORS:
        raise ValueError(f"the prior must be one of {', '.join(PRIORS)}, but is {family!r}.")
    if family == "normal":
        return Flow(standard_normal(dim), Identity((dim,)))
    if family == "mixture":
        components = dist.Normal(jr.normal(key, (num_components, dim)), 1.0).to_event(1)
        mixture = dist.MixtureSameFamily(dist.Categorical(logits=jnp.zeros(num_components)), components)
        return Flow(Learnable(mixture), Identity((dim,)))
    return getattr(flows, family)(dim, num_layers=num_layers, hidden=hidden, key=key)
