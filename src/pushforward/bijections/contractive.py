r"""Contractive residual bijections $x = u + g(u)$, and methods to compute their log-determinants."""

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.bijections.activations import Activation, lipswish, steepest_slope
from pushforward.bijections.arrays import detach
from pushforward.bijections.autoregressive.networks import MLP
from pushforward.bijections.base import AbstractBijection
from pushforward.bijections.checks import check_sizes
from pushforward.bijections.positive import positive, raw_positive
from pushforward.bijections.solvers.contraction import solve_contraction

# The spectral norm is bounded by the Schatten norm of order 4 x 2^5.
SQUARINGS = 5
FIRST_SHARPNESS = 8.0


class AbstractLogDet(eqx.Module):
    r"""A method to compute $\log\det(I + J)$, where $J$ is the Jacobian of a contraction."""

    @abc.abstractmethod
    def __call__(
        self,
        fn: Callable[[Array, Any], Array],
        u: Float[Array, " dim"],
        args: Any,
        rate: float,
        key: PRNGKeyArray | None,
    ) -> Float[Array, ""]:
        """The log-determinant of `u + fn(u, args)`, where `fn` has the Lipschitz constant `rate`."""


class ExactLogDet(AbstractLogDet):
    """The exact log-determinant of the Jacobian: `dim` passes of the network and $O(dim^3)$ operations."""

    def __call__(self, fn, u, args, rate, key):
        jacobian = jax.jacfwd(fn)(u, args)
        return jnp.linalg.slogdet(jnp.eye(u.size, dtype=u.dtype) + jacobian)[1]


class PowerSeries(AbstractLogDet):
    r"""$\sum_{k=1}^n \frac{(-1)^{k+1}}{k} v^\top J^k v$ with random signs $v$: $n$ passes, in any dimension.

    The bias is at most $d\,c^{n+1} / ((n+1)(1-c))$, where $c$ is the Lipschitz constant.

    Args:
        terms: $n$.
        probes: the number of vectors $v$ to average over.

    References:
        Behrmann et al., Invertible Residual Networks (2019), section 3.3. https://arxiv.org/abs/1811.00995
    """

    terms: int = eqx.field(static=True, default=10)
    probes: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        check_sizes(terms=self.terms, probes=self.probes)

    def __call__(self, fn, u, args, rate, key):
        return _mean_of_series(fn, u, args, key, self.probes, lambda key: self.terms, lambda k: 1.0)


class RussianRoulette(AbstractLogDet):
    r"""$\sum_{k=1}^N \frac{(-1)^{k+1}}{k\,P(N \ge k)} v^\top J^k v$ with a random $N$ and random signs $v$: unbiased.

    $N$ is `exact_terms` plus a geometric variable with $P(N \ge k + 1) = c\,P(N \ge k)$ and mean $c / (1 - c)$, where
    $c$ is the Lipschitz constant. Its tail is heavy enough for a finite variance. The gradient is unbiased too.

    Args:
        exact_terms: the number of terms that are always computed.
        probes: the number of pairs of $v$ and $N$ to average over.

    References:
        Chen et al., Residual Flows for Invertible Generative Modeling (2019), equations 6 to 8.
        https://arxiv.org/abs/1906.02735
    """

    exact_terms: int = eqx.field(static=True, default=5)
    probes: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        check_sizes(exact_terms=self.exact_terms, probes=self.probes)

    def __call__(self, fn, u, args, rate, key):
        def number(key):
            more = jr.exponential(key, dtype=u.dtype) / -jnp.log(rate)
            return self.exact_terms + more.astype(int)

        def weight(k):
            return rate ** -jnp.maximum(k - self.exact_terms, 0).astype(u.dtype)

        return _mean_of_series(fn, u, args, key, self.probes, number, weight)


def _mean_of_series(fn, u, args, key, probes, number, weight):
    r"""The mean over probes of $\sum_{k=1}^{n} (-1)^{k+1} w_k / k \; v^\top J^k v$.

    The value is this sum. Its gradient is estimated separately, by the gradient of $y^\top J v$ with the vector
    $y^\top = \sum_k (-1)^{k+1} w_k v^\top J^{k-1}$ held fixed: one pass instead of $n$ (Chen et al., equation 8),
    because $\mathrm d \log\det(I + J) = \mathrm{tr}((I + J)^{-1} \mathrm dJ)$.
    """
    fixed_u, fixed_args = detach((u, args))
    _, pull = jax.vjp(lambda u: fn(u, fixed_args), fixed_u)

    def one(key):
        number_key, probe_key = jr.split(key)
        v = jr.rademacher(probe_key, u.shape, u.dtype)
        n = number(number_key)

        def term(state):
            k, power, value, y = state
            sign = jnp.where(k % 2 == 0, -1, 1) * weight(k)
            (next_power,) = pull(power)
            return k + 1, next_power, value + sign / k * (next_power @ v), y + sign * power

        start = (jnp.array(1), v, jnp.zeros((), u.dtype), jnp.zeros_like(v))
        *_, value, y = jax.lax.while_loop(lambda state: state[0] <= n, term, start)
        _, push = jax.jvp(lambda u: fn(u, args), (u,), (v,))
        along_y = y @ push
        return value + (along_y - jax.lax.stop_gradient(along_y))

    return jnp.mean(jax.vmap(one)(jr.split(key, probes)))


class Contractive(AbstractBijection):
    r"""$x = u + g(u)$ with a network $g$ whose Lipschitz constant is at most $c < 1$, for any parameters.

    **The bound is proved** for the activations that the library knows; a given `max_slope` is checked only at points.
    $g$ has weights $W_i \min(1, \kappa / \|W_i\|_S)$, where
    $\|W\|_S = (\sum_j \sigma_j^p)^{1/p}$ is the Schatten norm of order $p = 128$: at least the largest singular value,
    at most 3% more at width 64, and smooth where the largest singular value is not. $\kappa$ makes the product of the
    layers' bounds and the activations' slopes equal to $c$. With bounded weights, an activation is almost linear over
    the range of its inputs; therefore each unit learns a sharpness $s > 0$ and computes $a(s h) / s$, which curves on
    the scale $1/s$ and has the same slopes (Chen et al. learn one for each layer). A condition shifts the first layer's
    bias; the network that computes the shift is not bounded.

    Forward costs one pass and the log-determinant. The inverse is an accelerated Banach fixed-point iteration; it
    always converges, or gives NaN where rounding prevents that. It starts as the identity.

    Args:
        dim: the dimension.
        hidden: the widths of $g$'s hidden layers.
        lipschitz: $c$.
        cond_dim: the size of a condition.
        activation: smooth; a module-level function.
        max_slope: the largest absolute slope of the activation; needed if the library does not know it.
        log_det: how to compute the log-determinant when a key is given; without a key it is exact.
        key: the key for the initial weights.

    References:
        Behrmann et al., Invertible Residual Networks (2019). https://arxiv.org/abs/1811.00995
        Chen et al., Residual Flows for Invertible Generative Modeling (2019). https://arxiv.org/abs/1906.02735
        Papamakarios et al. (2021), section 3.2.1.
    """

    weights: tuple[Float[Array, "out in"], ...]
    biases: tuple[Float[Array, " out"], ...]
    raw_sharpness: tuple[Float[Array, " hidden"], ...]
    condition_network: MLP | None
    log_det: AbstractLogDet
    lipschitz: float = eqx.field(static=True)
    layer_bound: float = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)
    numerical_inverse: ClassVar[bool] = True

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int] = (64, 64),
        *,
        key: PRNGKeyArray,
        lipschitz: float = 0.9,
        cond_dim: int | None = None,
        activation: Activation = lipswish,
        max_slope: float | None = None,
        log_det: AbstractLogDet | None = None,
    ):
        check_sizes(dim=dim, cond_dim=cond_dim)
        if not 0 < lipschitz < 1:
            raise ValueError(f"the Lipschitz constant must be between 0 and 1, but got lipschitz={lipschitz}.")
        if log_det is not None and not isinstance(log_det, AbstractLogDet):
            raise TypeError(f"log_det must be an instance such as PowerSeries(), but got {log_det!r}.")
        if not hidden:
            raise ValueError("the network needs one or more hidden layers, but got hidden=().")
        key, condition_key = jr.split(key)
        network = MLP(dim, dim, hidden, key=key)
        self.weights, self.biases = network.weights, network.biases
        self.raw_sharpness = tuple(raw_positive(jnp.full(width, FIRST_SHARPNESS)) for width in hidden)
        self.condition_network = None
        if cond_dim is not None:
            self.condition_network = MLP(cond_dim, hidden[0], hidden[:1], key=condition_key)
        self.cond_shape = None if cond_dim is None else (cond_dim,)
        self.activation, self.lipschitz = activation, lipschitz
        self.log_det = ExactLogDet() if log_det is None else log_det
        slopes = steepest_slope(activation, max_slope) ** len(hidden)
        self.layer_bound = (lipschitz / slopes) ** (1 / len(self.weights))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.biases[-1].shape

    @property
    def stochastic(self) -> bool:
        return not isinstance(self.log_det, ExactLogDet)

    def layers(self, condition: Any = None) -> tuple[tuple[Array, Array], ...]:
        """The bounded weights and the biases of $g$.

        Args:
            condition: the condition, if the bijection takes one.
        """
        weights = [weight * _shrink(weight, self.layer_bound) for weight in self.weights]
        first, *rest = self.biases
        if self.condition_network is not None:
            first = first + self.condition_network(condition)
        return tuple(zip(weights, (first, *rest), strict=True))

    def _sharp_layers(self, condition: Any) -> tuple[tuple[Array, Array], ...]:
        """`layers`, with the sharpness of each unit multiplied into the weights before and after it."""
        ends = jnp.ones_like(self.biases[-1])
        sharpness = [ends, *map(positive, self.raw_sharpness), ends]
        return tuple(
            (after[:, None] * weight / before, after * bias)
            for (weight, bias), before, after in zip(self.layers(condition), sharpness[:-1], sharpness[1:], strict=True)
        )

    def _forward(self, u, condition, key):
        layers = self._sharp_layers(condition)
        return u + _network(u, layers, self.activation), self._log_det(u, layers, key)

    def _inverse(self, x, condition, key):
        layers, activation = self._sharp_layers(condition), self.activation

        def step(u, args):
            layers, x = args
            return x - _network(u, layers, activation)

        u = solve_contraction(step, x, (layers, x), self.lipschitz)
        return u, -self._log_det(u, layers, key)

    def _push_score(self, u, score, condition):
        x, log_det = self._forward(u, condition, None)
        frozen, u, condition = detach((self, u, condition))
        layers = frozen._sharp_layers(condition)
        score = score - jax.grad(lambda u: frozen._log_det(u, layers, None))(u)
        # The exact log-determinant computes the whole Jacobian, so solving (I + J)^T s_x = score costs little more.
        jacobian = jax.jacfwd(lambda u: _network(u, layers, frozen.activation))(u)
        return x, log_det, jnp.linalg.solve(jnp.eye(u.size, dtype=u.dtype) + jacobian.T, score)

    def _log_det(self, u, layers, key):
        estimator, activation = (ExactLogDet() if key is None else self.log_det), self.activation
        return estimator(lambda u, layers: _network(u, layers, activation), u, layers, self.lipschitz, key)


def _network(u: Float[Array, " dim"], layers, activation: Activation) -> Float[Array, " dim"]:
    for weight, bias in layers[:-1]:
        u = activation(weight @ u + bias)
    weight, bias = layers[-1]
    return weight @ u + bias


def _shrink(weight: Float[Array, "out in"], bound: float) -> Float[Array, ""]:
    """The factor that reduces the spectral norm of a matrix to at most `bound`; 1 if it is small enough already.

    For the Gram matrix G, the largest eigenvalue to the power n is at most the Frobenius norm of G^n.
    """
    small, large = sorted((weight, weight.T), key=len)
    # The added diagonal makes the norm differentiable at 0, and can only increase it.
    gram = small @ large + jnp.finfo(weight.dtype).eps * bound**2 * jnp.eye(len(small), dtype=weight.dtype)
    log_square = 0.0
    for n in range(SQUARINGS):
        size = jnp.linalg.norm(gram)
        gram = gram / size
        gram, log_square = gram @ gram, log_square + jnp.log(size) / 2**n
    log_square = log_square + jnp.log(jnp.linalg.norm(gram)) / 2**SQUARINGS
    return jnp.exp(jnp.minimum(jnp.log(bound) - log_square / 2, 0.0))
