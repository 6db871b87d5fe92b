r"""The Rosenblatt map: any positive density, straightened coordinate by coordinate through its conditional CDFs.

$F$ with $u_i = P(x'_i \le x_i \mid x'_{<i} = x_{<i})$ carries a density $p$ to the uniform one on the open cube, and
$\det J_F = p(x)$. The bijections here go on to the whole space, $y_i = \operatorname{logit} u_i$, where no digit of a
tail is lost: near 1 numbers are too coarse to tell one $u_i$ from another, but $\log u_i$ and $\log(1 - u_i)$ are not.

References:
    Rosenblatt, Remarks on a Multivariate Transformation (1952), Ann. Math. Statist. 23, 470-472.
    Papamakarios et al., Normalizing Flows for Probabilistic Modeling and Inference (2021), section 2.2.
    https://arxiv.org/abs/1912.02762
"""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float

from pushforward.bijections.base import AbstractBijection, is_known
from pushforward.bijections.elementwise import strictly_inside
from pushforward.bijections.inversion import invert_monotone
from pushforward.bijections.linear import Triangular
from pushforward.bijections.positive import positive

Number = Float[Array, ""]

LOG_ROOT_TWO_PI = 0.5 * float(np.log(2 * np.pi))


class AbstractLaw(eqx.Module):
    """The law of one number: what the Rosenblatt map needs to know of a conditional distribution."""

    @abc.abstractmethod
    def log_tails(self, x: Number) -> tuple[Number, Number]:
        r"""$\log P(x' \le x)$ and $\log P(x' > x)$, each to a relative precision of rounding."""

    @abc.abstractmethod
    def log_prob(self, x: Number) -> Number:
        """The log-density."""

    @abc.abstractmethod
    def from_line(self, t: Number) -> Number:
        """An increasing map of the line onto the support; the quantile is searched for on the line."""

    def logit(self, x: Number) -> Number:
        """The logit of the CDF."""
        return _logit(self, x)

    def quantile(self, y: Number) -> Number:
        """Where the logit of the CDF is `y`; NaN if that is not found."""
        return self.from_line(invert_monotone(lambda t, law: law.logit(law.from_line(t)), y, self))


@eqx.filter_custom_jvp
def _logit(law: AbstractLaw, x: Number) -> Number:
    below, above = law.log_tails(x)
    return below - above


@_logit.def_jvp
def _logit_jvp(primals, tangents):
    # By the density, which is exact; the derivative of a CDF as it is computed need not be.
    (law, x), (law_tangent, x_tangent) = primals, tangents
    y, tangent = _logit(law, x), 0.0
    if jax.tree.leaves(law_tangent):
        (below, above) = eqx.filter_jvp(lambda law: law.log_tails(x), (law,), (law_tangent,))[1]
        tangent = below - above
    if x_tangent is not None:
        tangent = tangent + x_tangent * jnp.exp(law.log_prob(x) + _log_slope_of_logit(y))
    return y, tangent


def _log_slope_of_logit(y: Array) -> Array:
    r"""$-\log u(1 - u)$ at $u = \sigma(y)$."""
    return jax.nn.softplus(y) + jax.nn.softplus(-y)


class AbstractRosenblatt(AbstractBijection):
    r"""$y_i = \operatorname{logit} P(x'_i \le x_i \mid x'_{<i} = x_{<i})$, from a density's support onto the space.

    The Jacobian is lower triangular, and $\log\det = \log p(x) - \sum_i \log u_i (1 - u_i)$.
    """

    dim: eqx.AbstractVar[int]
    cond_shape: ClassVar[None] = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    @abc.abstractmethod
    def log_prob(self, x: Float[Array, " dim"]) -> Number:
        r"""$\log p(x)$, normalised."""

    @abc.abstractmethod
    def logits(self, x: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """$y$."""

    @abc.abstractmethod
    def quantiles(self, y: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """$x$, one coordinate after the other."""

    def forward_and_log_det(self, u, condition=None, *, key=None):
        x = strictly_inside(u, self.domain)
        y = self.logits(x)
        return y, self._log_det(x, y)

    def inverse_and_log_det(self, x, condition=None, *, key=None):
        u = self.quantiles(x)
        return u, -self._log_det(u, x)

    def _log_det(self, x, y):
        return self.log_prob(x) + jnp.sum(_log_slope_of_logit(y))


class GaussianMixtureLaw(AbstractLaw):
    """A mixture of normal laws."""

    log_weights: Float[Array, " components"]
    locs: Float[Array, " components"]
    scales: Float[Array, " components"]

    def log_tails(self, x):
        z = (x - self.locs) / self.scales
        return tuple(jax.nn.logsumexp(self.log_weights + log_ndtr(side)) for side in (z, -z))

    def log_prob(self, x):
        return jax.nn.logsumexp(self.log_weights + _log_normal((x - self.locs) / self.scales, self.scales))

    def from_line(self, t):
        # By the moments, which need no gradient: they tell where to search, not what is found.
        weights, locs, scales = jax.lax.stop_gradient((jnp.exp(self.log_weights), self.locs, self.scales))
        loc = jnp.sum(weights * locs)
        return loc + t * jnp.sqrt(jnp.sum(weights * (scales**2 + (locs - loc) ** 2)))


def _log_normal(z: Array, scale: Array) -> Array:
    return -0.5 * z**2 - LOG_ROOT_TWO_PI - jnp.log(scale)


class GaussianMixtureRosenblatt(AbstractRosenblatt):
    r"""The Rosenblatt map of a Gaussian mixture, in any dimension.

    Given $x_{<i}$, component $k$ is normal with $m_{ki} = \mu_{ki} + \sum_{j<i} L_{kij} z_{kj}$ and scale $L_{kii}$,
    where $z_k = L_k^{-1}(x - \mu_k)$; its weight is $w_k \prod_{j<i} \mathcal N(x_j; m_{kj}, L_{kjj}^2)$, normalised.
    So forward is one triangular solve for each component. The inverse solves for the coordinates in turn.

    Its arrays are parameters without constraints: the mixture can be learned.

    Args:
        weights: of the components, positive; they need not sum to one.
        locs: the means $\mu_k$.
        scale_trils: the lower Cholesky factors $L_k$ of the covariances.
    """

    raw_weights: Float[Array, " components"]
    components: Triangular
    dim: int = eqx.field(static=True)

    def __init__(
        self,
        weights: Float[Array, " components"],
        locs: Float[Array, "components dim"],
        scale_trils: Float[Array, "components dim dim"],
    ):
        if not is_known(weights, locs, scale_trils):
            raise ValueError("a mixture's map is built outside of jit and grad, and passed to what they transform.")
        weights, locs, scale_trils = (np.asarray(a, dtype=float) for a in (weights, locs, scale_trils))  # pyright: ignore
        count, dim = locs.shape if locs.ndim == 2 else (0, 0)
        if not count or not dim or weights.shape != (count,) or scale_trils.shape != (count, dim, dim):
            raise ValueError(
                "a mixture of K components in d dimensions has weights (K,), locs (K, d) and scale_trils (K, d, d), "
                f"but they have shapes {weights.shape}, {locs.shape} and {scale_trils.shape}."
            )
        if not (np.all(weights > 0) and np.all(np.isfinite(weights)) and np.all(np.isfinite(locs))):
            raise ValueError(f"weights must be positive and finite, and locs finite, but got {weights} and {locs}.")
        if not np.all(np.isfinite(scale_trils)):
            raise ValueError("the scale_trils must be finite.")
        self.raw_weights = jnp.log(jnp.asarray(weights / weights.sum()))
        each = [Triangular(dim, loc, matrix) for loc, matrix in zip(locs, scale_trils, strict=True)]
        self.components = jax.tree.map(lambda *arrays: jnp.stack(arrays), *each)
        self.dim = dim

    def _scores(self, x: Float[Array, " dim"]) -> Float[Array, "components dim"]:
        """$z$."""
        return jax.vmap(lambda component: component.inverse(x))(self.components)

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
            # The coordinates to come are still 0 in z.
            locs = locs + jnp.sum(rows * z, axis=1)
            x = GaussianMixtureLaw(jax.nn.log_softmax(log_weights), locs, scales).quantile(y)
            new = (x - locs) / scales
            return (log_weights + _log_normal(new, scales), z.at[:, i].set(new)), x

        start = jax.nn.log_softmax(self.raw_weights), jnp.zeros_like(self.components.loc)
        by_coordinate = matrices.swapaxes(0, 1), self.components.loc.T, scales.T
        return jax.lax.scan(step, start, (jnp.arange(self.dim), y, *by_coordinate))[1]


class AbstractSequentialRosenblatt(AbstractRosenblatt):
    """A Rosenblatt map by laws of single coordinates given those before, each another."""

    @abc.abstractmethod
    def law(self, before: Float[Array, " i"]) -> AbstractLaw:
        """The law of the coordinate that comes after these."""

    def logits(self, x):
        return jnp.stack([self.law(x[:i]).logit(x[i]) for i in range(self.dim)])

    def quantiles(self, y):
        x = y[:0]
        for i in range(self.dim):
            x = jnp.append(x, self.law(x).quantile(y[i]))
        return x
