"""The likelihood of rows in their original units, as a function of the flow that is trained on whitened samples."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.bijections import AbstractBijection
from pushforward.bijections.circular import to_circle
from pushforward.flow import Flow
from pushforward.training import Rows
from pushforward.training.objectives import AbstractObjective

# The number of validation rows that are evaluated together.
ROWS_TOGETHER = 20_000

Values = tuple[Float[Array, "n dim"], Float[Array, "n cond_dim"] | None]


class MaximumLikelihood(AbstractObjective):
    r"""$-E[\log q(x \mid c)]$, estimated on batches of training rows and evaluated on all validation rows.

    Values of discrete columns are dequantized: $x + u$ with new $u \sim U[0, \text{step})$ at every use. The objective
    is then a lower bound of the log-likelihood of the discrete values.

    Args:
        training: the training rows, as pairs of samples and conditions (or None). Batches are drawn with replacement,
            in proportion to the weights.
        validation: the validation rows, in the same form; the batch size is not used.
        whitening: the bijection from whitened samples to samples, conditional like the flow; it is not trained.
        steps: the step of each discrete column, 0 for others; None if there are no discrete columns.
        angles: which whitened coordinates are angles, in [-pi, pi].

    References:
        Theis et al., A Note on the Evaluation of Generative Models (2016), section 3.1.
        https://arxiv.org/abs/1511.01844
    """

    training: Rows
    validation: Rows
    whitening: AbstractBijection
    steps: Float[Array, " dim"] | None
    angles: tuple[bool, ...] = eqx.field(static=True)

    @property
    def batches(self) -> Rows:
        return self.training

    def loss(self, flow, batch, key, step):
        noise_key, log_det_key = jr.split(key)
        values, _ = batch
        return -jnp.mean(self._log_prob(flow, values, noise_key, log_det_key))

    def evaluate(self, flow, key):
        log_prob, weights = self.validation_log_prob(flow, key), self.validation.weights
        return -jnp.mean(log_prob if weights is None else log_prob * (weights / jnp.mean(weights)))

    def validation_log_prob(self, flow: Flow, key: PRNGKeyArray) -> Float[Array, " validation"]:
        """The log-density of each validation row, in nats and in the units of the rows.

        Args:
            flow: the flow of whitened samples.
            key: the key for the dequantization of discrete columns.
        """
        values, size = self.validation.values, len(self.validation)
        num_parts = size // ROWS_TOGETHER
        if not num_parts:
            return self._log_prob(flow, values, key)
        # In parts, because the networks' arrays of very many rows would fill the memory.
        first = num_parts * ROWS_TOGETHER
        parts = jax.tree.map(lambda a: a[:first].reshape(num_parts, ROWS_TOGETHER, *a.shape[1:]), values)
        keys = jr.split(key, num_parts)
        log_prob = jax.lax.map(lambda part: self._log_prob(flow, *part), (parts, keys)).ravel()
        if first == size:
            return log_prob
        last = jax.tree.map(lambda a: a[first:], values)
        return jnp.concatenate([log_prob, self._log_prob(flow, last, key)])

    def _log_prob(self, flow: Flow, values: Values, noise_key: PRNGKeyArray, log_det_key: PRNGKeyArray | None = None):
        x, condition = values
        x = x if self.steps is None else x + self.steps * jr.uniform(noise_key, x.shape)
        # Without a linear part of the condition, whitening does not take one.
        shift = None if self.whitening.cond_shape is None else condition
        z, log_det = self.whitening.batched.inverse_and_log_det(x, shift)
        if any(self.angles):
            # Dequantization adds up to one step, which may pass the end of the circle, and so may rounding errors.
            turned = jnp.clip(to_circle(z, -jnp.pi, 2 * jnp.pi), -jnp.pi, jnp.pi)
            z = jnp.where(jnp.array(self.angles), turned, z)
        return flow.log_prob(z, condition, log_det_key=log_det_key) + log_det
