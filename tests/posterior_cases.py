"""Targets and weights shared by the tests of `posterior`."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import gammaln
from scipy import stats

import pushforward as pf
from pushforward.flows.stack import standard_normal
from pushforward.training import Evaluation, History


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


def gaussian_fit(loc, scale):
    """A posterior of N(0, I) by N(loc, scale^2 I), with the diagnostics of 5000 draws."""
    target = pf.Target(lambda x: dist.Normal(0, 1).log_prob(x["a"]).sum(), {"a": jnp.zeros(2)})
    flow = pf.Flow(standard_normal(2), pf.bijections.Triangular(2, jnp.full(2, loc), scale * jnp.eye(2)))
    u, log_q = flow.sample_and_log_prob(jr.key(2), (5000,))
    log_weights = np.asarray(jax.vmap(target)(u) - log_q)
    diagnostics = pf.diagnose(log_weights, draws=np.asarray(u))
    history = History(np.zeros(250), (Evaluation("flow", 0, 250, 1.0, 0.1, 0.2, 1.0, 0, {}),))
    return pf.Posterior.from_draws(target, flow, diagnostics, history, np.asarray(u), log_weights)
