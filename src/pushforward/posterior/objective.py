"""What a fit of a posterior minimizes, and how near the posterior it is."""

import math

import jax.numpy as jnp
from jax.scipy.special import logsumexp

from pushforward.bijections.autoregressive.coupling import with_float32_networks
from pushforward.posterior.estimate import Estimate
from pushforward.posterior.target import Whitened, finite_or_zero
from pushforward.posterior.verdict.assessment import draws_per_call, weighted_batch
from pushforward.training import AbstractObjective, ReverseKL
from pushforward.training.data import NoBatches

# A step of 64 draws takes a third of the time of one of 256, and twice as many of them reach a lower divergence.
NUM_SAMPLES = 64


class PosteriorKL(AbstractObjective):
    """The reverse KL divergence by path gradients, evaluated on enough draws to say how near the posterior is.

    Steps compute the networks of couplings in float32, which changes the gradient by less than its noise; evaluations
    compute all in the precision of the flow. With large data, each step has an unbiased estimate of the log-density
    from a batch of rows.

    Args:
        target: in whitened coordinates.
    """

    target: Whitened

    @property
    def batches(self):
        density = self.target.target
        return density.batches if isinstance(density, Estimate) else NoBatches()

    def loss(self, flow, batch, key, step):
        target = self.target
        if isinstance(target.target, Estimate):
            # Unbiased also where the evaluation, from fixed rows, is not.
            target = Whitened(target.target.on(batch[0]), target.affine)
        return ReverseKL(target, NUM_SAMPLES).loss(with_float32_networks(flow), batch, key, step)

    def evaluate(self, flow, key):
        log_weights = finite_or_zero(weighted_batch(self.target, flow, key, draws_per_call(flow.bijection.shape[0]))[1])
        size, elbo = log_weights.size, jnp.mean(log_weights)
        log_sum, log_sum_of_squares = logsumexp(log_weights), logsumexp(2 * log_weights)
        ess_fraction = jnp.exp(2 * log_sum - log_sum_of_squares) / size
        return -elbo, {"gap": log_sum - math.log(size) - elbo, "ess_fraction": ess_fraction}
