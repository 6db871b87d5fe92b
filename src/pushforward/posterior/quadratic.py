r"""The flow of a posterior near a Gaussian: a quadratic map, trained by a few natural-gradient steps of many draws.

In whitened coordinates, the log-density of such a posterior is that of $N(0, I)$ plus small terms of third and higher
order. The map that pushes $N(0, I)$ to it has, to first order in the terms of third order, a skewness of each
coordinate, and log-scales that are linear and shifts that are quadratic functions of the coordinates before it.

At the identity, the derivatives of this map by its parameters are orthogonal polynomials under $N(0, I)$, so its Fisher
information is known: the natural gradient is the path gradient times constants (`_natural`). The noise of path
gradients vanishes as the fit becomes exact. So three or four steps of thousands of draws reach what Adam reaches in
thousands of steps of few draws. Far from a Gaussian steps may be too long: if the ELBO falls, half of the step follows
from the best flow.

References:
    Amari, Natural Gradient Works Efficiently in Learning (1998).
    Marzouk et al., Sampling via Measure Transport: An Introduction (2016). https://arxiv.org/abs/1602.05023
"""

import functools
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.bijections import Affine, Chain, Elementwise, QuadraticAutoregressive, SinhArcsinh
from pushforward.bijections.arrays import trainable
from pushforward.flow import Flow
from pushforward.flows.default import MODERATE_DIM
from pushforward.flows.stack import standard_normal
from pushforward.posterior.objective import NUM_SAMPLES
from pushforward.posterior.target import Whitened
from pushforward.posterior.verdict.diagnostics import GOOD_GAP, Diagnostics
from pushforward.posterior.verdict.pareto import MAX_KHAT
from pushforward.training import ReverseKL
from pushforward.training.compilation import jit_quick_compilation, one_blas_thread
from pushforward.training.interruption import never_stop
from pushforward.training.run import Took

# The draws of a step, and how many of them are in memory.
NUM_DRAWS, DRAWS_AT_ONCE = 8192, 128
LENGTH = 0.7
# Steps of this length end after MAX_CONSTANT, or if one gains less than MIN_GAIN nats. Then follow steps of decreasing
# length, which average the noise of the draws out, more of them where there are more parameters.
MAX_CONSTANT, MIN_GAIN = 5, 0.005
MIN_AVERAGING, DIMS_PER_STEP = 2, 16
# A step takes time proportional to the third power of the dimension. All steps have this share of a fit's budget.
MAX_DIM, SHARE = 64, 0.25
# A larger fall of the ELBO (nats) than the noise of its estimates is a step that was too long.
MAX_FALL = 0.1


def is_promising(gaussian: Diagnostics, flow: Flow, budget: int) -> bool:
    """Whether a quadratic map can be near a posterior: the weights of the Gaussian have no heavy tail.

    In few dimensions, where couplings are quick, the Gaussian must be nearer.

    Args:
        gaussian: the diagnostics of the Gaussian in whitened coordinates.
        flow: the Gaussian, or a mixture, which the map cannot replace.
        budget: the number of gradients of the whole fit.
    """
    dim, one_mode = flow.bijection.shape[0], not isinstance(flow.base, dist.MixtureSameFamily)
    affordable = (_max_steps(dim) + 1) * NUM_DRAWS <= SHARE * budget
    near = gaussian.khat <= MAX_KHAT and (gaussian.gap < GOOD_GAP or dim >= MODERATE_DIM)
    return near and one_mode and affordable and dim <= MAX_DIM


def _max_steps(dim: int) -> int:
    return MAX_CONSTANT + _num_averaging(dim)


def _num_averaging(dim: int) -> int:
    return MIN_AVERAGING + dim // DIMS_PER_STEP


@one_blas_thread()
def quadratic_fit(
    target: Whitened,
    dim: int,
    key: PRNGKeyArray,
    *,
    stop: Callable[[], bool] = never_stop,
    took: Took[Flow] = lambda loss, losses, flow: loss,
) -> Flow:
    """The quadratic map of N(0, I) with the highest ELBO of all steps.

    Args:
        target: the target, in coordinates in which it is near N(0, I).
        dim: the dimension.
        key: the key for the draws.
        stop: a function that returns whether to end early; it is called before each step.
        took: called after each step, with minus the ELBO before it, the losses of its draws, `NUM_SAMPLES` at a time,
            and the flow before it; returns minus the ELBO that counts.
    """
    flow = best = identity(dim)
    highest, last, scale, shorter = -math.inf, -math.inf, 1.0, 0
    for index in range(_max_steps(dim) + 1):
        if stop():
            break
        length = scale * LENGTH / (1 + LENGTH * shorter)
        new, elbo, losses = _step(flow, target, jr.fold_in(key, index), jnp.asarray(length))
        elbo = -took(-float(elbo), np.repeat(np.asarray(losses), DRAWS_AT_ONCE // NUM_SAMPLES), flow)
        # Also if it is not a number.
        if not elbo > highest - MAX_FALL:
            flow, scale = best, scale / 2
            continue
        if elbo > highest or shorter:
            best, highest = flow, max(elbo, highest)
        if shorter or elbo - last < MIN_GAIN or index >= MAX_CONSTANT:
            shorter += 1
        if shorter > _num_averaging(dim):
            break
        flow, last = new, elbo
    return best


# Compiled as a whole; otherwise its construction compiles a dozen small programs.
@jit_quick_compilation
def identity(dim: int) -> Flow:
    """The identity as a quadratic map.

    Args:
        dim: the dimension.
    """
    # With their own location and scale: a step of all four numbers changes later coordinates' inputs consistently.
    marginals = Elementwise(Chain([SinhArcsinh(), Affine()]), dim)
    return Flow(standard_normal(dim), Chain([marginals, QuadraticAutoregressive(dim)]))


# It runs a dozen times, for seconds.
@functools.partial(jit_quick_compilation, level=1)
def _step(
    flow: Flow, target: Whitened, key: PRNGKeyArray, length: Float[Array, ""]
) -> tuple[Flow, Float[Array, ""], Float[Array, " groups"]]:
    """The flow after a step, its ELBO before it, and the losses of groups of draws.

    Groups whose gradient is not finite are left out, and have the loss NaN.
    """
    parameters, static = eqx.partition(flow, trainable(flow))
    objective = ReverseKL(target, DRAWS_AT_ONCE)

    def loss(parameters, key):
        return objective.loss(eqx.combine(parameters, static), None, key, jnp.array(0))

    def add(sums, key):
        terms = jax.value_and_grad(loss)(parameters, key)
        usable = jnp.array([jnp.isfinite(term).all() for term in jax.tree.leaves(terms)]).all()
        sums = jax.tree.map(lambda total, term: total + jnp.where(usable, term, 0), sums, (*terms, jnp.array(1.0)))
        return sums, jnp.where(usable, terms[0], jnp.nan)

    zeros = jax.tree.map(jnp.zeros_like, (jnp.array(0.0), parameters, jnp.array(0.0)))
    (value, gradient, count), losses = jax.lax.scan(add, zeros, jr.split(key, NUM_DRAWS // DRAWS_AT_ONCE))
    natural = _natural(jax.tree.map(lambda g: g / count, gradient))
    moved = jax.tree.map(lambda p, g: p - length * g, parameters, natural)
    return eqx.combine(moved, static), -value / count, losses


def _natural(gradient: Flow) -> Flow:
    r"""The inverse Fisher information at the identity times the gradient.

    If a parameter moves the map by a vector field $v(u)$, the Fisher information of two of them is
    $E[v_a \cdot v_b + \operatorname{tr} J_a J_b]$, with the Jacobians of the fields.
    """

    def scalars(flow):
        shape, affine = flow.bijection.bijections[0].scalars.bijections
        return shape.skew, shape.raw_tail, affine.loc, affine.raw_scale

    def halved(flow):
        quadratic = flow.bijection.bijections[1]
        return quadratic.log_scale_linear, quadratic.quadratic

    new = eqx.tree_at(scalars, gradient, tuple(_inverse_of_scalars() @ jnp.stack(scalars(gradient))))
    return eqx.tree_at(halved, new, tuple(g / 2 for g in halved(gradient)))


def _inverse_of_scalars() -> Float[np.ndarray, "4 4"]:
    """The inverse Fisher information of a coordinate's skewness, raw tail, location and raw scale."""
    u, weights = np.polynomial.hermite_e.hermegauss(64)
    root = np.sqrt(1 + u**2)
    # The derivatives of positive numbers by their raw arrays are 1/2 at 1.
    fields = np.stack([root, np.arcsinh(u) * root / 2, np.ones_like(u), u / 2])
    slopes = np.stack([u / root, (1 + np.arcsinh(u) * u / root) / 2, np.zeros_like(u), np.full_like(u, 0.5)])
    weights = weights / weights.sum()
    return np.linalg.inv((weights * fields) @ fields.T + (weights * slopes) @ slopes.T)
