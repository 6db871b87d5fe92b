"""Posteriors whose evidence and draws are exact, each difficult in one way, for `calibration.py`."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints


class Known(NamedTuple):
    """A log-density of one array, a sampler of n draws, and what `Target` needs."""

    log_density: Callable
    sample: Callable
    example: Any
    support: Any = None
    log_evidence: float = 0.0


def of(d: dist.Distribution, support: Any = None) -> Known:
    """The density of a distribution of vectors."""
    center = np.full(d.event_shape, 1 / d.event_shape[0] if support is not None else 0.0)
    return Known(d.log_prob, lambda key, n: d.sample(key, (n,)), center, support)


def mixture(locs, weights, scales=1.0) -> Known:
    """Normal distributions at the rows of `locs`."""
    locs, weights = np.asarray(locs, float), np.asarray(weights, float)
    scales = np.broadcast_to(np.asarray(scales, float), len(locs))[:, None, None]
    parts = dist.MultivariateNormal(locs, scale_tril=scales * np.eye(locs.shape[1]))
    return of(dist.MixtureSameFamily(dist.Categorical(weights / weights.sum()), parts))


def modes(distance: float, weights: tuple[float, ...]) -> Known:
    """Modes on the diagonal of three dimensions."""
    return mixture([[i * distance] * 3 for i in range(len(weights))], weights)


def grid(side: int, dim: int, num: int, distance: float) -> np.ndarray:
    """`num` places of a grid, which are drawn at random."""
    places = np.array(list(itertools.product(range(side), repeat=dim)), float) - (side - 1) / 2
    return distance * np.random.default_rng(0).permutation(places)[:num]


def around(num: int, distance: float) -> np.ndarray:
    """The origin, and `num` other places of a grid in the plane."""
    side = 2 * int(np.ceil(np.sqrt(num + 1) / 2)) + 1
    places = grid(side, 2, side**2, distance)
    apart = places[np.any(places != 0, axis=1)]
    return np.concatenate([np.zeros((1, 2)), apart[:num]])


def funnel_density(x):
    return dist.Normal(0, 3).log_prob(x[0]) + dist.Normal(0, jnp.exp(x[0] / 2)).log_prob(x[1:]).sum()


def funnel_draws(key, n):
    x = jr.normal(key, (n, 6))
    return jnp.concatenate([3 * x[:, :1], x[:, 1:] * jnp.exp(1.5 * x[:, :1])], 1)


def banana_density(x):
    bent = x.at[1].add(-0.5 * (x[0] ** 2 - 4))
    return dist.Normal(0, jnp.array([2.0, 1.0, 1.0, 0.1])).log_prob(bent).sum()


def banana_draws(key, n):
    x = jr.normal(key, (n, 4)) * jnp.array([2.0, 1.0, 1.0, 0.1])
    return x.at[:, 1].add(0.5 * (x[:, 0] ** 2 - 4))


def skewed_density(x):
    return (dist.Gamma(2.0, 1.0).log_prob(jnp.exp(x)) + x).sum()


def bent_chain(dim: int, bend: float, spread: float) -> Known:
    """Each coordinate has a mean that is quadratic, and a log-scale that is linear, in the one before it.

    Without the bound, some draws of ten such steps are so large that the standard deviation is infinite.
    """

    def shifts(before):
        bounded = 3 * jnp.tanh(before / 3)
        return bend * (bounded**2 - 1), jnp.exp(spread * bounded)

    def log_density(x):
        loc, scale = shifts(x[:-1])
        return dist.Normal().log_prob(x[0]) + dist.Normal(loc, scale).log_prob(x[1:]).sum()

    def draw(noise):
        def step(before, z):
            loc, scale = shifts(before)
            after = loc + scale * z
            return after, after

        return jnp.concatenate([noise[:1], jax.lax.scan(step, noise[0], noise[1:])[1]])

    return Known(log_density, lambda key, n: jax.vmap(draw)(jr.normal(key, (n, dim))), np.zeros(dim))


def rounded(constant: float, dim: int) -> Known:
    """N(0, I), whose log-density is rounded to single precision after a constant is added.

    Without `reduce_precision`, XLA may leave the rounding out.
    """

    def log_density(x):
        return jax.lax.reduce_precision(dist.Normal().log_prob(x).sum() + constant, 8, 23).astype(jnp.float32)

    return Known(log_density, lambda key, n: jr.normal(key, (n, dim)), np.zeros(dim, np.float32), None, constant)


EXACT = {
    "two modes near": modes(1.5, (0.5, 0.5)),
    "two modes": modes(4.0, (0.7, 0.3)),
    "three modes far": modes(8.0, (0.5, 0.3, 0.2)),
    "a small mode": modes(5.0, (0.97, 0.03)),
    "heavy tails": of(dist.MultivariateStudentT(3.0, np.zeros(5), np.eye(5))),
    "very heavy tails": of(dist.MultivariateStudentT(1.5, np.zeros(2), np.eye(2))),
    "funnel": Known(funnel_density, funnel_draws, np.zeros(6)),
    "banana": Known(banana_density, banana_draws, np.zeros(4)),
    "skewed": Known(skewed_density, lambda key, n: jnp.log(jr.gamma(key, 2.0, (n, 8))), np.zeros(8)),
    # More modes than a fit covers.
    "thirty modes": mixture(grid(6, 2, 30, 10.0), [1.0] * 30),
    "a mode among sixty": mixture(around(60, 9.0), [0.6] + [0.4 / 60] * 60),
    "a hundred modes": mixture(grid(5, 3, 100, 10.0), [1.0] * 100),
    # Exchangeable parameters: a mode for each of the 24 orders of four numbers.
    "labels": mixture(list(itertools.permutations((-3.0, -1.0, 1.0, 3.0))), [1.0] * 24, 0.25),
    # Narrow, and of little or much weight.
    "a narrow mode": mixture([[0.0, 0.0], [2.0, 2.0]], [0.9, 0.1], [1.0, 0.05]),
    "a spike": mixture([[0.0] * 3, [2.0] * 3], [0.8, 0.2], [1.0, 0.05]),
    # Mass at the ends of the interval and the simplex, beyond what floating-point numbers resolve.
    "ends of an interval": of(dist.Beta(np.full(2, 0.05), 0.05).to_event(1), constraints.unit_interval),
    "corners of a simplex": of(dist.Dirichlet(np.full(3, 0.1)), constraints.simplex),
    "edges of a simplex": of(dist.Dirichlet(np.full(3, 0.5)), constraints.simplex),
    # Rounding.
    "a large constant": rounded(-1e8, 5),
    "a constant": rounded(-1e5, 5),
    # Near a Gaussian, in few and in many dimensions.
    "bent": bent_chain(10, 0.15, 0.0),
    "bent and spread": bent_chain(10, 0.1, 0.15),
    "bent, 40 dimensions": bent_chain(40, 0.05, 0.05),
}
