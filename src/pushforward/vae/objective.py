r"""What training a VAE minimises: the negative ELBO, weakened at first, or an importance-weighted bound."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.vae.model import VAE


class Value(NamedTuple):
    """The loss of a batch, and the parts that it is made of, in nats for an image."""

    loss: Float[Array, ""]
    reconstruction: Float[Array, ""]
    kl: Float[Array, ""]


class NegativeBound(eqx.Module):
    r"""$-\frac1n \sum_x \log \frac1S \sum_s p(x \mid u_s) p(u_s)^\beta / q(u_s \mid x)^\beta$, $u_s \sim q(u \mid x)$.

    For $S = 1$ it is $-E[\log p(x \mid u)] + \beta\,\mathrm{KL}$, the negative ELBO where $\beta = 1$; warm-up begins
    with a small $\beta$, so that the decoder learns to use the latent vectors before the prior bites. Free bits put
    $\max(\lambda, \mathrm{KL})$ in the place of a batch's mean KL: nothing is gained by fewer than $\lambda$ nats. (A
    flow's KL is not a sum over coordinates, so there is one $\lambda$ for all.)

    Args:
        num_samples: $S$; more than 1 makes it the importance-weighted bound.
        free_bits: $\lambda$ in nats, with $S = 1$ only.
        path_gradient: leave out the score of $q$, which has mean zero; with $S = 1$ only.

    References:
        Sønderby et al., Ladder Variational Autoencoders (2016), section 2.3 (warm-up). https://arxiv.org/abs/1602.02282
        Kingma et al. (2016), appendix C.8 (free bits). https://arxiv.org/abs/1606.04934
        Burda et al. (2016). https://arxiv.org/abs/1509.00519
        Roeder et al., Sticking the Landing (2017). https://arxiv.org/abs/1703.09194
    """

    num_samples: int = eqx.field(static=True, default=1)
    free_bits: float = eqx.field(static=True, default=0.0)
    path_gradient: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        if self.num_samples < 1 or self.free_bits < 0:
            raise ValueError(
                f"a bound needs num_samples >= 1 and free_bits >= 0, got {self.num_samples} and {self.free_bits}."
            )
        if self.num_samples > 1 and (self.free_bits or self.path_gradient):
            raise ValueError(
                f"free bits and path gradients are for the ELBO of one sample, but num_samples={self.num_samples}."
            )

    def __call__(self, vae: VAE, x: Array, key: PRNGKeyArray, beta: Float[Array, ""] | float = 1.0) -> Value:
        """The loss of a batch of images."""
        terms = vae.terms(x, key, self.num_samples, path_gradient=self.path_gradient)
        divergence = terms.log_posterior - terms.log_prior
        reconstruction, kl = -terms.log_likelihood.mean(), divergence.mean()
        if self.num_samples > 1:
            log_weight = terms.log_likelihood - beta * divergence
            bound = jax.nn.logsumexp(log_weight, axis=0) - jnp.log(self.num_samples)
            return Value(-bound.mean(), reconstruction, kl)
        loss = reconstruction + beta * (jnp.maximum(kl, self.free_bits) if self.free_bits else kl)
        return Value(loss, reconstruction, kl)
