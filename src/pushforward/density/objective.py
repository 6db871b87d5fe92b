"""The likelihood of rows as they are, with what leads from standardised samples to them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.bijections import AbstractBijection
from pushforward.bijections.circular import to_circle
from pushforward.flow import Flow
from pushforward.objectives import AbstractObjective

# Held-out rows that are judged together.
ROWS_TOGETHER = 20_000


class Rows(eqx.Module):
    """Samples, what they are given, and how much each counts."""

    x: Float[Array, "n dim"]
    condition: Float[Array, "n cond_dim"] | None
    weights: Float[Array, " n"] | None

    def take(self, rows: Array) -> "Rows":
        """Some of them."""
        condition = None if self.condition is None else self.condition[rows]
        return Rows(self.x[rows], condition, None if self.weights is None else self.weights[rows])

    def __len__(self) -> int:
        return len(self.x)


class HeldOutLikelihood(AbstractObjective):
    r"""$-E[\log q(x)]$ of rows, trained on some and compared on others, in the units of the rows.

    Values of discrete columns are spread over their steps, $x + u$ with $u \sim U[0, \text{step})$ fresh each time:
    what is maximised is a lower bound of the likelihood of the values.

    Args:
        training: rows that batches are drawn from, with replacement.
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

    def loss(self, flow, key):
        row_key, noise_key, log_det_key = jr.split(key, 3)
        rows = jr.randint(row_key, (self.batch_size,), 0, len(self.training))
        return self._of(flow, self.training.take(rows), self.training, noise_key, log_det_key)

    def evaluate(self, flow, key):
        num_parts, rest = divmod(len(self.held_out), ROWS_TOGETHER)
        if not num_parts:
            return self._of(flow, self.held_out, self.held_out, key)
        # Part by part, for all that networks make of very many rows would fill the memory.
        first = num_parts * ROWS_TOGETHER
        parts = jax.tree.map(lambda a: a[:first].reshape(num_parts, ROWS_TOGETHER, *a.shape[1:]), self.held_out)
        losses = jax.lax.map(
            lambda part: self._of(flow, part[0], self.held_out, part[1]), (parts, jr.split(key, num_parts))
        )
        total = ROWS_TOGETHER * losses.sum()
        if rest:
            last = jax.tree.map(lambda a: a[first:], self.held_out)
            total += rest * self._of(flow, last, self.held_out, key)
        return total / len(self.held_out)

    def _of(
        self, flow: Flow, rows: Rows, among: Rows, noise_key: PRNGKeyArray, log_det_key: PRNGKeyArray | None = None
    ):
        x = rows.x if self.steps is None else rows.x + self.steps * jr.uniform(noise_key, rows.x.shape)
        z, log_det = self.back.batched(
            "inverse_and_log_det", (x.T,), rows.condition, None if rows.condition is None else 0
        )
        if any(self.angles):
            # Steps may lead over the seam, and roundings too.
            turned = jnp.clip(to_circle(z, -jnp.pi, 2 * jnp.pi), -jnp.pi, jnp.pi)
            z = jnp.where(jnp.array(self.angles)[:, None], turned, z)
        log_prob = flow.log_prob(z.T, rows.condition, log_det_key=log_det_key) + log_det
        if rows.weights is not None and among.weights is not None:
            log_prob = log_prob * (rows.weights / jnp.mean(among.weights))
        return -jnp.mean(log_prob)
