"""Targets and weights shared by the tests of `posterior`."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import gammaln
from scipy import stats

import pushforward as pf


def gaussian_target(dim, seed, widest):
    """A correlated Gaussian whose standard deviations differ by up to `widest`, with evidence 1."""
    rng = np.random.default_rng(seed)
    scales = widest ** rng.uniform(-0.5, 0.5, dim)
    root = jnp.asarray(scales[:, None] * (np.eye(dim) + np.tril(rng.normal(size=(dim, dim)), -1) / dim))
    loc = jnp.asarray(scales * rng.normal(size=dim) * 30)
    d = dist.MultivariateNormal(loc, scale_tril=root)
    return pf.Target(d.log_prob, jnp.zeros(dim)), d


def gaussian_log_weights(shift, scale, num=100_000, seed=0):
    """log p - log q for p = N(0, 1), q = N(shift, scale^2); the evidence is 0."""
    u = np.random.default_rng(seed).normal(shift, scale, num)
    return stats.norm.logpdf(u) - stats.norm.logpdf(u, shift, scale)


def banana(x):
    return -0.5 * (x[0] ** 2 + (x[1] - x[0] ** 2) ** 2 / 0.25)


def absorbing(u):
    """A standard normal in one dimension, whose terms lose all digits from u = 34 on, where it is computed as high."""
    k = jnp.exp(u[0])
    zero = gammaln(k) - gammaln(k + 3) + jnp.log(k) + jnp.log(k + 1) + jnp.log(k + 2)
    return -0.5 * u[0] ** 2 + 100 * zero


def far_mode(share, distance, dim):
    """The log-density of a standard normal and another that is far away along the first axis and has a share."""
    locs = jnp.zeros((2, dim)).at[1, 0].set(distance)
    return dist.MixtureSameFamily(
        dist.Categorical(jnp.array([1 - share, share])), dist.Normal(locs, 1.0).to_event(1)
    ).log_prob
