"""The likelihood of rows as they are, with what leads from standardised samples to them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward import training
from pushforward.bijections import AbstractBijection
from pushforward.bijections.circular import to_circle
from pushforward.flow import Flow
from pushforward.training.objectives import AbstractObjective

# Held-out rows that are judged together.
ROWS_TOGETHER = 20_000


class Rows(eqx.Module):
    """Samples, what they are given, and how much each counts."""

    x: Float[Array, "n dim"]
    condition: Float[Array, "n cond_dim"] | None
    weights: Float[Array, " n"] | None

    def batches(self, batch_size: int) -> training.Rows:
        """Batches of these rows, drawn in proportion to their weights."""
        return training.Rows((self.x, self.condition), self.weights, batch_size)

    def __len__(self) -> int:
        return len(self.x)


class HeldOutLikelihood(AbstractObjective):
    r"""$-E[\log q(x)]$ of rows, trained on some and compared on others, in the units of the rows.

    Values of discrete columns are spread over their steps, $x + u$ with $u \sim U[0, \text{step})$ fresh each time:
    what is maximised is a lower bound of the likelihood of the values.

    Args:
        training: rows that batches are drawn from, with replacement, in proportion to their weights.
        held_out: rows that a flow is judged by, all of them.
        back: from what the flow is a density of to the rows, given what they are; not trained.
        steps: of the discrete columns, 0 for the others; None if there are none.
        angles: which coordinates of what the flow is a density of are angles, in [-pi, pi].
        batch_size: rows a step.

    References:
        Theis et al., A Note on the Evaluation of Generative Models (2016), section 3.1.
        https://arxiv.org/abs/1511.01844
    """

    training: Rows
    held_out: Rows
    back: AbstractBijection
    steps: Float[Array, " dim"] | None
    angles: tuple[bool, ...] = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    @property
    def batches(self) -> training.Rows:
        return self.training.batches(self.batch_size)

    def loss(self, flow, batch, key, step):
        noise_key, log_det_key = jr.split(key)
        (x, condition), _ = batch
        return -jnp.mean(self._log_prob(flow, Rows(x, condition, None), noise_key, log_det_key))

    def evaluate(self, flow, key):
        log_prob, weights = self.held_out_log_prob(flow, key), self.held_out.weights
        return -jnp.mean(log_prob if weights is None else log_prob * (weights / jnp.mean(weights)))

    def held_out_log_prob(self, flow: Flow, key: PRNGKeyArray) -> Float[Array, " held_out"]:
        """Of each held-out row."""
        num_parts = len(self.held_out) // ROWS_TOGETHER
        if not num_parts:
            return self._log_prob(flow, self.held_out, key)
        # Part by part, for all that networks make of very many rows would fill the memory.
        first = num_parts * ROWS_TOGETHER
        parts = jax.tree.map(lambda a: a[:first].reshape(num_parts, ROWS_TOGETHER, *a.shape[1:]), self.held_out)
        keys = jr.split(key, num_parts)
        log_prob = jax.lax.map(lambda part: self._log_prob(flow, *part), (parts, keys)).ravel()
        if first == len(self.held_out):
            return log_prob
        last = jax.tree.map(lambda a: a[first:], self.held_out)
        return jnp.concatenate([log_prob, self._log_prob(flow, last, key)])

    def _log_prob(self, flow: Flow, rows: Rows, noise_key: PRNGKeyArray, log_det_key: PRNGKeyArray | None = None):
        x = rows.x if self.steps is None else rows.x + self.steps * jr.uniform(noise_key, rows.x.shape)
        z, log_det = self.back.batched(
            "inverse_and_log_det", (x.T,), rows.condition, None if rows.condition is None else 0
        )
        if any(self.angles):
            # Steps may lead over the seam, and roundings too.
            turned = jnp.clip(to_circle(z, -jnp.pi, 2 * jnp.pi), -jnp.pi, jnp.pi)
            z = jnp.where(jnp.array(self.angles)[:, None], turned, z)
        return flow.log_prob(z.T, rows.condition, log_det_key=log_det_key) + log_det
