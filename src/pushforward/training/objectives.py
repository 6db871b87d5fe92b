"""Objectives of training. They are pytrees: their data are arguments of the compiled program, not constants."""

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from pushforward.arguments import check_fields, checked, in_words
from pushforward.bijections.arrays import ArrayLike
from pushforward.flow import Flow, Learnable
from pushforward.training.data import AbstractBatches, NoBatches, Rows
from pushforward.training.devices import spread

Value = Float[Array, ""] | tuple[Float[Array, ""], dict[str, Float[Array, ""]]]


class AbstractObjective(eqx.Module):
    """A loss to minimize, in nats.

    Both methods return a scalar, or a scalar and a dict of further scalars, which the history records. `metrics` names
    those of `loss`, which must return all of them, and no others.
    """

    metrics: ClassVar[tuple[str, ...]] = ()

    @property
    def batches(self) -> AbstractBatches:
        """The default source of batches, which the argument `batches` of `train` replaces; by default no data."""
        return NoBatches()

    def check_model(self, model: Any) -> None:
        """Raise if the objective cannot be used with a model; by default it takes every pytree.

        Args:
            model: the model to train.

        Raises:
            TypeError: if it is not of the type that the objective needs.
        """

    @abc.abstractmethod
    def loss(self, model: Any, batch: PyTree, key: PRNGKeyArray, step: Int[Array, ""]) -> Value:
        """An unbiased estimate of the loss for one step; its gradient may be another estimator's, with less variance.

        Args:
            model: the model to train.
            batch: a batch from `batches`.
            key: the random key of this step.
            step: the index of this step, from 0.
        """

    @abc.abstractmethod
    def evaluate(self, model: Any, key: PRNGKeyArray) -> Value:
        """An estimate of the loss for the choice of the best model.

        Args:
            model: the model to evaluate.
            key: the same for all evaluations of one training, so that their differences come from the model, not from
                the draws.
        """


class _FlowObjective(AbstractObjective):
    """Base class of the objectives of flows."""

    def check_model(self, model):
        if not isinstance(model, Flow):
            raise TypeError(f"model must be a Flow, but is {in_words(model)}, in train with {type(self).__name__}.")


class ReverseKL(_FlowObjective):
    r"""$\mathrm{KL}(q \,\|\, p)$ up to the constant $\log Z$: the negative ELBO $E_q[\log q(x) - \log \tilde p(x)]$.

    By default its gradient is the path gradient, which leaves out the score term of mean zero; its variance vanishes
    as $q \to p$. The score of $q$ is computed together with the forward pass, so no inverse pass is needed. If $q$ is
    far from $p$ and $\log q$ is not smooth, as for splines with many bins, the total gradient has less variance: if
    training with a large learning rate diverges, start with `path_gradient=False`.

    Args:
        target: maps one event to its log-density up to a constant.
        num_samples: the number of draws per step.
        path_gradient: whether to use the path gradient. Flows with stochastic log-determinants always have the total
            gradient.
        num_evaluation_samples: the number of draws per evaluation.

    Raises:
        ValueError: for numbers of draws below 1.

    References:
        Roeder et al., Sticking the Landing (2017). https://arxiv.org/abs/1703.09194
        Vaitl et al., Fast and Unified Path Gradient Estimators for Normalizing Flows (2024).
        https://arxiv.org/abs/2403.15881
    """

    target: Callable[[Array], Float[Array, ""]]
    num_samples: int = eqx.field(static=True)
    path_gradient: bool = eqx.field(static=True)
    num_evaluation_samples: int = eqx.field(static=True)

    @checked()
    def __init__(
        self,
        target: Callable[[Array], Float[Array, ""]],
        num_samples: int = 128,
        *,
        path_gradient: bool = True,
        num_evaluation_samples: int = 1024,
    ):
        self.target, self.num_samples = target, num_samples
        self.path_gradient, self.num_evaluation_samples = path_gradient, num_evaluation_samples

    def loss(self, flow, batch, key, step):
        check_differentiable(flow)
        if not self.path_gradient or flow.bijection.stochastic:
            x, log_q = flow.sample_and_log_prob(key, (self.num_samples,), log_det_key=jr.fold_in(key, 1))
            x, log_q = spread((x, log_q))
            return jnp.mean(log_q - log_target(self.target, x, log_q.ndim))
        x, log_q = sample_and_path_log_prob(flow, key, (self.num_samples,))
        return jnp.mean(log_q - log_target(self.target, x, log_q.ndim))

    def evaluate(self, flow, key):
        x, log_q = flow.sample_and_log_prob(key, (self.num_evaluation_samples,))
        return jnp.mean(log_q - log_target(self.target, x, log_q.ndim))


def log_target(target: Callable[[Array], Float[Array, ""]], x: Array, batch_ndim: int) -> Array:
    """The values of a target at draws.

    Args:
        target: maps one event to its log-density.
        x: the draws.
        batch_ndim: the number of axes before those of an event.

    Raises:
        ValueError: if the target does not return a scalar, which broadcasting would combine with other draws.
    """
    for _ in range(batch_ndim):
        target = jax.vmap(target)
    values = target(x)
    if shape := jnp.shape(values)[batch_ndim:]:
        raise ValueError(f"target must return a scalar for one event, but returns an array of shape {shape}.")
    return values


def check_differentiable(flow: Flow) -> None:
    """Raise unless gradients can flow through the flow's draws."""
    if isinstance(flow.base, Learnable) and not flow.base_distribution.has_rsample:
        raise ValueError(
            f"this objective needs draws that are differentiable in the base's parameters, which "
            f"{type(flow.base.template).__name__} does not offer; use it without Learnable."
        )


def sample_and_path_log_prob(
    flow: Flow, key: PRNGKeyArray, sample_shape: tuple[int, ...], condition: Array | None = None
) -> tuple[Array, Array]:
    """Draws, and their log-densities with the path gradient: the gradient through the draws only, without the score."""
    x, log_q, score = flow.sample_log_prob_and_score(key, sample_shape, condition)
    if condition is None:
        x, log_q, score = spread((x, log_q, score))
    along = jnp.sum(score * x, axis=range(log_q.ndim, x.ndim))
    return x, jax.lax.stop_gradient(log_q) + along - jax.lax.stop_gradient(along)


class _WeightedBound(_FlowObjective):
    """Base class of the bounds that are the logarithm of a mean of powers of importance weights."""

    alpha: eqx.AbstractVar[float]
    target: eqx.AbstractVar[Callable[[Array], Float[Array, ""]]]
    num_samples: eqx.AbstractVar[int]
    num_bounds: eqx.AbstractVar[int]
    num_evaluation_bounds: eqx.AbstractVar[int]

    def __check_init__(self):
        check_fields(self)

    def _bounds(self, log_weights: Float[Array, "samples bounds"]) -> Float[Array, " bounds"]:
        if self.alpha == 1:
            return log_weights.mean(0)
        power = 1 - self.alpha
        return (jax.nn.logsumexp(power * log_weights, axis=0) - math.log(len(log_weights))) / power

    def loss(self, flow, batch, key, step):
        check_differentiable(flow)
        shape = (self.num_samples, self.num_bounds)
        if flow.bijection.stochastic:
            x, log_q = flow.sample_and_log_prob(key, shape, log_det_key=jr.fold_in(key, 1))
            return -jnp.mean(self._bounds(log_target(self.target, x, log_q.ndim) - log_q))
        x, log_q = sample_and_path_log_prob(flow, key, shape)
        log_weights = log_target(self.target, x, log_q.ndim) - log_q
        normalized = jax.nn.softmax((1 - self.alpha) * jax.lax.stop_gradient(log_weights), axis=0)
        # The gradient of the bound, whose score terms are written as path terms; its value is that of the bound.
        surrogate = jnp.sum((self.alpha * normalized + (1 - self.alpha) * normalized**2) * log_weights, axis=0)
        bounds = jax.lax.stop_gradient(self._bounds(log_weights) - surrogate) + surrogate
        return -jnp.mean(bounds)

    def evaluate(self, flow, key):
        x, log_q = flow.sample_and_log_prob(key, (self.num_samples, self.num_evaluation_bounds))
        return -jnp.mean(self._bounds(log_target(self.target, x, log_q.ndim) - log_q))


class ImportanceWeighted(_WeightedBound):
    r"""The negative importance-weighted bound, $-E \log \frac1K \sum_k w_k$ with $w_k = \tilde p(x_k) / q(x_k)$.

    It lies between the ELBO, $K = 1$, and $\log Z$. With more draws, regions where $p$ has mass and $q$ has little are
    penalized more. The gradient is the doubly reparameterized gradient, $\sum_k \bar w_k^2\, \nabla \log w_k$ along the
    paths of the draws, where $\bar w_k$ are the normalized weights. Its signal-to-noise ratio does not decrease with
    $K$.

    Args:
        target: maps one event to its log-density up to a constant.
        num_samples: $K$.
        num_bounds: the number of bounds that are averaged in a step.
        num_evaluation_bounds: the number of bounds per evaluation.

    Raises:
        ValueError: for numbers below 1, and an $\alpha$ that is not finite.

    References:
        Burda et al., Importance Weighted Autoencoders (2016), equation 8. https://arxiv.org/abs/1509.00519
        Tucker et al., Doubly Reparameterized Gradient Estimators (2019), equation 8. https://arxiv.org/abs/1810.04152
    """

    target: Callable[[Array], Float[Array, ""]]
    num_samples: int = eqx.field(static=True, default=16)
    num_bounds: int = eqx.field(static=True, default=16)
    num_evaluation_bounds: int = eqx.field(static=True, default=256)
    alpha: ClassVar[float] = 0.0


class Renyi(_WeightedBound):
    r"""The negative variational Rényi bound, $-\frac{1}{1-\alpha} E \log \frac1K \sum_k w_k^{1-\alpha}$.

    For many draws it is $D_\alpha(q \,\|\, p) - \log Z$. For $\alpha = 1$ it is the negative ELBO, for $\alpha = 0$
    `ImportanceWeighted`. For $\alpha < 1$, a smaller $\alpha$ penalizes regions that $q$ misses more strongly, with
    a noisier gradient. The gradient is $\sum_k (\alpha \bar w_k + (1 - \alpha) \bar w_k^2)\, \nabla \log w_k$ along the
    paths of the draws, where $\bar w_k$ are the normalized $w_k^{1-\alpha}$.

    Args:
        target: maps one event to its log-density up to a constant.
        alpha: $\alpha$, any finite number.
        num_samples: $K$.
        num_bounds: the number of bounds that are averaged in a step.
        num_evaluation_bounds: the number of bounds per evaluation.

    Raises:
        ValueError: for numbers below 1, and an $\alpha$ that is not finite.

    References:
        Li and Turner, Rényi Divergence Variational Inference (2016), equation 9. https://arxiv.org/abs/1602.02311
        Tucker et al. (2019), section 4, of which the gradient is the general case.
    """

    target: Callable[[Array], Float[Array, ""]]
    alpha: float = eqx.field(static=True, default=0.5)
    num_samples: int = eqx.field(static=True, default=16)
    num_bounds: int = eqx.field(static=True, default=16)
    num_evaluation_bounds: int = eqx.field(static=True, default=256)


class ForwardKL(_FlowObjective):
    r"""$\mathrm{KL}(p \,\|\, q)$ up to the entropy of $p$: the negative log-likelihood $-E_p[\log q(x)]$ of samples.

    Args:
        data: samples, of shape (n, *event).
        condition: their conditions, of shape (n, *cond_shape).
        weights: how much each sample counts, of shape (n,); not negative. By default all count the same.
        batch_size: samples per step, drawn with replacement in proportion to their weights; None for all samples.
        num_evaluation_samples: the largest number of samples for a fresh estimate; if there are more samples, those
            of an estimate are drawn as those of a step.

    Raises:
        ValueError: for shapes that do not agree, values that are not finite, negative weights, or numbers below 1.

    References:
        Papamakarios et al. (2021), section 2.3.1. https://arxiv.org/abs/1912.02762
    """

    rows: Rows
    num_evaluation_samples: int = eqx.field(static=True)

    @checked()
    def __init__(
        self,
        data: ArrayLike,
        condition: ArrayLike | None = None,
        *,
        weights: ArrayLike | None = None,
        batch_size: int | None = 256,
        num_evaluation_samples: int = 4096,
    ):
        data = jnp.asarray(data, dtype=float)
        condition = None if condition is None else jnp.asarray(condition, dtype=float)
        weights = None if weights is None else jnp.asarray(weights, dtype=float)
        _check_samples(data, condition)
        self.rows = Rows((data, condition), weights, batch_size)
        self.num_evaluation_samples = num_evaluation_samples

    @property
    def batches(self) -> Rows:
        return self.rows

    def loss(self, flow, batch, key, step):
        match batch:
            case ((_, _) as values, weights):
                return self._negative_log_likelihood(flow, values, weights, log_det_key=key)
        raise TypeError(
            "the batches of ForwardKL must have the form ((data, condition), weights), where condition and weights "
            f"may be None, as those of Epochs(((data, None), None), batch_size), but one is {in_words(batch)}."
        )

    def evaluate(self, flow, key):
        if len(self.rows) <= self.num_evaluation_samples:
            return self._negative_log_likelihood(flow, self.rows.values, self.rows.weights)
        # In proportion to the weights: among rows chosen uniformly, few or none may have a positive weight.
        return self._negative_log_likelihood(flow, self.rows.draw(key, self.num_evaluation_samples), None)

    def _negative_log_likelihood(self, flow, values, weights, log_det_key=None):
        log_prob = flow.log_prob(*values, log_det_key=log_det_key)
        if weights is None or self.rows.weights is None:
            return -jnp.mean(log_prob)
        return -jnp.mean(log_prob * (weights / jnp.mean(self.rows.weights)))


def _check_samples(data: Array, condition: Array | None) -> None:
    if data.ndim < 1 or data.shape[0] < 1:
        raise ValueError(f"ForwardKL needs one or more samples along the first axis, got shape {data.shape}.")
    if condition is not None and condition.shape[:1] != data.shape[:1]:
        raise ValueError(
            f"data and condition must have the same number of rows, but have {data.shape[0]} and {condition.shape[0]}."
        )
    for name, values in (("samples", data), ("conditions", condition)):
        if values is not None and not bool(jnp.isfinite(values).all()):
            raise ValueError(f"the {name} hold values that are NaN or infinite; remove those rows first.")
