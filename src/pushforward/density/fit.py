"""`fit_density`: maximum likelihood on samples."""

import math
from collections.abc import Callable, Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.bijections import Affine, Chain, Elementwise, OntoCircles, RescaledCondition, Triangular
from pushforward.density import checks, recipe, supports
from pushforward.density.objective import HeldOutLikelihood, Rows
from pushforward.flow import Flow
from pushforward.training import train

BATCH = 512
LEARNING_RATE = 2e-3
# Steps of the cosine decay, unless `max_epochs` says otherwise.
FEWEST_STEPS, MOST_STEPS = 2_000, 20_000
MOST_EPOCHS = 60


def fit_density(
    x: ArrayLike,
    *,
    key: PRNGKeyArray,
    condition: ArrayLike | None = None,
    flow: Flow | None = None,
    support: Constraint | Sequence[Constraint] = constraints.real,
    discrete: Sequence[int | str] | Mapping[int | str, float] = (),
    weights: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    validation: float = 0.1,
    batch_size: int = BATCH,
    learning_rate: float = LEARNING_RATE,
    max_epochs: int | None = None,
    patience: int = 20,
    progress: bool = True,
    callback: Callable[[int, float], object] | None = None,
) -> Flow:
    r"""Fit a flow to samples by maximum likelihood.

    The samples are carried to the whole space, if they have a bounded support, and whitened; a share of the rows is
    held out; Adam with decoupled weight decay (of networks), clipped gradients and a cosine decay trains until the
    held-out likelihood has not risen for `patience` evaluations. The parameters that did best on held-out rows are
    returned, with whitening and support folded into the flow: its densities are in the units of `x`, and draws
    lie in the support.

    The values of a discrete column are a step apart, as counts are. Each is spread evenly over the step that begins
    with it, afresh whenever it is used. The flow is a density of such spread values: a value's probability (given
    the other columns) is its integral over the value's step, and a draw becomes a value by rounding down.

    Args:
        x: samples, of shape (n, dim).
        key: for all randomness.
        condition: what each row is given, of shape (n, cond_dim): then the flow is conditional, $q(x \mid c)$.
        flow: what to train, on whitened samples; by default autoregressive splines whose size depends on n and dim.
        support: where the columns lie: one for all or one for each; intervals, as NumPyro constraints, or `Circular`
            for angles, whose density goes on across the ends.
        discrete: columns of values a step apart, by index or name; a mapping tells the steps, which are else found.
        weights: of rows, not negative: how often each counts.
        names: of the columns.
        validation: the share of rows that is held out.
        batch_size: rows a step.
        learning_rate: at first; it decays to a hundredth.
        max_epochs: passes through the data at most; by default as many as make 2,000 to 20,000 steps.
        patience: evaluations without a better held-out likelihood, after which training ends.
        progress: whether to show a bar, and to say which flow was chosen and why.
        callback: called with the number of steps done and the negative log-likelihood of held-out rows, in nats a row.

    Returns:
        A flow with `log_prob` in nats and in the units of `x`, and `sample`.

    Raises:
        ValueError: for samples that are not finite, not in the support, constant or duplicated columns, too few rows,
            and shapes that do not go together. The message names rows and columns.

    References:
        Papamakarios et al. (2021), section 2.3.1. https://arxiv.org/abs/1912.02762
    """
    if not 0 < validation < 1 or batch_size < 1 or patience < 1 or (max_epochs is not None and max_epochs < 1):
        raise ValueError(
            f"fit_density needs 0 < validation < 1, and batch_size, patience and max_epochs of 1 or more, but got "
            f"validation={validation}, batch_size={batch_size}, patience={patience} and max_epochs={max_epochs}."
        )
    x = checks.matrix("x", x)
    size, dim = x.shape
    columns = checks.call_columns(dim, names)
    checks.check_samples(x, columns)
    to_support, circles = supports.split(support, dim)
    x = supports.wrap(x, circles)
    steps = supports.find_steps(x, discrete, names, columns)
    checks.warn_of_coarse(x, steps, columns)
    checks.check_inside(x, to_support.ends, steps, columns)
    condition = None if condition is None else checks.check_condition(condition, size)
    weights = None if weights is None else checks.check_weights(weights, size)

    flow_key, split_key, train_key, noise_key = jr.split(key, 4)
    back = _standardise(x, steps, to_support, circles, noise_key)
    angles = tuple(circle is not None for circle in circles)
    if flow is None:
        flow, reason = recipe.choose(size, dim, None if condition is None else condition.shape[1], angles, flow_key)
        if progress:
            print(reason)
    _check_flow(flow, dim, condition, angles)
    if condition is not None:
        flow = _given_units(flow, condition)

    rows = Rows(*(None if a is None else jnp.asarray(a, float) for a in (x, condition, weights)))
    order = jr.permutation(split_key, size)
    held_out, kept = jnp.split(order, [max(1, round(validation * size))])
    objective = HeldOutLikelihood(
        rows.take(kept),
        rows.take(held_out),
        back,
        jnp.asarray(steps) if steps.any() else None,
        batch_size=min(batch_size, len(kept)),
    )
    epoch = math.ceil(len(kept) / batch_size)
    num_steps = min(max(FEWEST_STEPS, MOST_EPOCHS * epoch), MOST_STEPS) if max_epochs is None else max_epochs * epoch
    flow, _ = train(
        flow,
        objective,
        train_key,
        steps=num_steps,
        optimizer=recipe.optimizer(learning_rate, num_steps),
        progress=progress,
        num_evaluations=min(100, num_steps),
        callback=_Patience(patience, callback),
    )
    if any(angles):
        return Flow(flow.base, OntoCircles(Chain([flow.bijection.bijection, back]), circles))
    return Flow(flow.base, Chain([flow.bijection, back]))


class _Patience:
    """Ends training when the loss has not fallen for so many evaluations."""

    def __init__(self, patience: int, callback: Callable[[int, float], object] | None):
        self.patience, self.callback = patience, callback
        self.best, self.waited = math.inf, 0

    def __call__(self, step: int, loss: float) -> bool:
        self.waited = 0 if loss < self.best else self.waited + 1
        self.best = min(self.best, loss)
        if self.callback is not None:
            self.callback(step, loss)
        return self.waited >= self.patience


def _standardise(x, steps, to_support, circles, key) -> Chain:
    """From standardised coordinates, which for angles are those of [-pi, pi), to the samples."""
    spread = x + steps * np.asarray(jr.uniform(key, x.shape))
    z = np.asarray(jax.jit(jax.vmap(to_support.inverse))(spread))
    loc, scale = z.mean(0), z.std(0)
    for i, circle in enumerate(circles):
        if circle is not None:
            loc[i], scale[i] = sum(circle) / 2, (circle[1] - circle[0]) / (2 * math.pi)
    affine = eqx.filter_vmap(Affine)(jnp.asarray(loc), jnp.asarray(scale))
    affine = eqx.tree_at(lambda b: b.scalars, Elementwise(Affine(), len(loc)), affine)
    return Chain([_correlate((z - loc) / scale, circles), affine, to_support])


def _correlate(z: np.ndarray, circles: Sequence[supports.Circle | None]) -> Triangular:
    """From uncorrelated coordinates to ones correlated as the samples are: the flow starts as their Gaussian.

    Angles are left as they are. A little of the identity is added where rows are few.
    """
    size, dim = z.shape
    correlation = z.T @ z / size
    angles = np.array([circle is not None for circle in circles])
    correlation[angles] = correlation[:, angles] = 0
    little = min(1, dim / size**2)
    np.fill_diagonal(correlation, np.where(angles, 1, np.diag(correlation)))
    factor = np.linalg.cholesky((1 - little) * correlation + little * np.eye(dim))
    return Triangular(dim, matrix=jnp.asarray(factor))


def _check_flow(flow: Flow, dim: int, condition, angles: tuple[bool, ...]) -> None:
    if flow.shape != (dim,) or flow.cond_shape != (None if condition is None else condition.shape[1:]):
        raise ValueError(
            f"the flow must have shape ({dim},) and the condition's shape, but has shape {flow.shape} and cond_shape "
            f"{flow.cond_shape}, with a condition of shape {None if condition is None else condition.shape}."
        )
    its = flow.bijection.angles if isinstance(flow.bijection, OntoCircles) else (False,) * dim
    if its != angles:
        raise ValueError(
            f"the flow must have angles where the support is circular, as pushforward.flows.circular({dim}, "
            f"angles={list(angles)}) has, but has them at {list(its)}."
        )


def _given_units(flow: Flow, condition) -> Flow:
    """The flow, given the condition in its own units."""
    loc, scale = condition.mean(0), condition.std(0)
    if isinstance(flow.bijection, OntoCircles):
        inner = RescaledCondition(flow.bijection.bijection, loc, scale)
        return Flow(flow.base, OntoCircles(inner, flow.bijection.circles))
    return Flow(flow.base, RescaledCondition(flow.bijection, loc, scale))
