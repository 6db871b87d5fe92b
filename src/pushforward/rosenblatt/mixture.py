"""The Rosenblatt map of a Gaussian mixture, in any dimension."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float

from pushforward.arguments import checked
from pushforward.bijections.checks import is_known
from pushforward.bijections.linear import Triangular
from pushforward.bijections.positive import positive
from pushforward.rosenblatt.base import AbstractRosenblatt, AbstractUnivariateDistribution

LOG_ROOT_TWO_PI = 0.5 * float(np.log(2 * np.pi))


class UnivariateGaussianMixture(AbstractUnivariateDistribution):
    """A mixture of univariate normal distributions."""

    log_weights: Float[Array, " components"]
    locs: Float[Array, " components"]
    scales: Float[Array, " components"]

    def log_tails(self, x):
        z = (x - self.locs) / self.scales
        return tuple(jax.nn.logsumexp(self.log_weights + log_ndtr(side)) for side in (z, -z))

    def log_prob(self, x):
        return jax.nn.logsumexp(self.log_weights + _log_normal((x - self.locs) / self.scales, self.scales))

    def from_real(self, t):
        # Uses the moments without gradients: they affect only the start of the search, not its result.
        weights, locs, scales = jax.lax.stop_gradient((jnp.exp(self.log_weights), self.locs, self.scales))
        loc = jnp.sum(weights * locs)
        return loc + t * jnp.sqrt(jnp.sum(weights * (scales**2 + (locs - loc) ** 2)))


def _log_normal(z: Array, scale: Array) -> Array:
    return -0.5 * z**2 - LOG_ROOT_TWO_PI - jnp.log(scale)


class GaussianMixtureRosenblatt(AbstractRosenblatt):
    r"""The Rosenblatt map of a Gaussian mixture, in any dimension.

    Given $x_{<i}$, component $k$ is normal with $m_{ki} = \mu_{ki} + \sum_{j<i} L_{kij} z_{kj}$ and scale $L_{kii}$,
    where $z_k = L_k^{-1}(x - \mu_k)$; its weight is $w_k \prod_{j<i} \mathcal N(x_j; m_{kj}, L_{kjj}^2)$, normalized.
    So forward is one triangular solve for each component. The inverse solves for one coordinate after the other.

    Its arrays are unconstrained parameters: the mixture can be trained.

    Args:
        weights: the weights $w_k$, positive; they need not sum to one.
        locs: the means $\mu_k$.
        scale_trils: the lower Cholesky factors $L_k$ of the covariances.
    """

    raw_weights: Float[Array, " components"]
    components: Triangular
    dim: int = eqx.field(static=True)

    @checked()
    def __init__(
        self,
        weights: Float[Array, " components"],
        locs: Float[Array, "components dim"],
        scale_trils: Float[Array, "components dim dim"],
    ):
        if not is_known(weights, locs, scale_trils):
            raise ValueError("build the map of a mixture outside of jit and grad, and pass it as an argument.")
        weights, locs, scale_trils = (np.asarray(a, dtype=float) for a in (weights, locs, scale_trils))  # pyright: ignore
        count, dim = locs.shape if locs.ndim == 2 else (0, 0)
        if not count or not dim or weights.shape != (count,) or scale_trils.shape != (count, dim, dim):
            raise ValueError(
                "a mixture of K components in d dimensions has weights (K,), locs (K, d) and scale_trils (K, d, d), "
                f"but got shapes {weights.shape}, {locs.shape} and {scale_trils.shape}."
            )
        if not (np.all(weights > 0) and np.all(np.isfinite(weights)) and np.all(np.isfinite(locs))):
            raise ValueError(f"weights must be positive and finite, and locs finite, but got {weights} and {locs}.")
        if not np.all(np.isfinite(scale_trils)):
            raise ValueError("scale_trils must be finite.")
        self.raw_weights = jnp.log(jnp.asarray(weights / weights.sum()))
        each = [Triangular(dim, loc, matrix) for loc, matrix in zip(locs, scale_trils, strict=True)]
        self.components = jax.tree.map(lambda *arrays: jnp.stack(arrays), *each)
        self.dim = dim

    def _scores(self, x: Float[Array, " dim"]) -> Float[Array, "components dim"]:
        """$z_k$ for each component."""
        return jax.vmap(lambda component: component.inverse_batch(x)[0])(self.components)

    def logits(self, x):
        z, scales = self._scores(x), positive(self.components.raw_diagonal)
        before = jnp.cumsum(_log_normal(z, scales)[:, :-1], axis=1)
        before = jnp.concatenate([jnp.zeros_like(z[:, :1]), before], axis=1)
        log_weights = jax.nn.log_softmax(self.raw_weights[:, None] + before, axis=0)
        below, above = (jax.nn.logsumexp(log_weights + log_ndtr(side), axis=0) for side in (z, -z))
        return below - above

    def log_prob(self, x):
        z, scales = self._scores(x), positive(self.components.raw_diagonal)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.raw_weights) + _log_normal(z, scales).sum(1))

    def quantiles(self, y):
        scales = positive(self.components.raw_diagonal)
        matrices = jax.vmap(lambda component: component.matrix)(self.components)

        def step(state, at):
            log_weights, z = state
            i, y, rows, locs, scales = at
            # Later coordinates of z are still 0.
            locs = locs + jnp.sum(rows * z, axis=1)
            x = UnivariateGaussianMixture(jax.nn.log_softmax(log_weights), locs, scales).quantile(y)
            new = (x - locs) / scales
            return (log_weights + _log_normal(new, scales), z.at[:, i].set(new)), x

        start = jax.nn.log_softmax(self.raw_weights), jnp.zeros_like(self.components.loc)
        by_coordinate = matrices.swapaxes(0, 1), self.components.loc.T, scales.T
        return jax.lax.scan(step, start, (jnp.arange(self.dim), y, *by_coordinate))[1]
