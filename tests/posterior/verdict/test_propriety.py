"""Improper posteriors in several ways, and proper ones with heavy tails."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from posterior_cases import absorbing
from pushforward.posterior.verdict import propriety
from pushforward.posterior.verdict.propriety import is_improper

C = dist.constraints
TWO = jnp.zeros(2)
LOCATION_SCALE = {"m": jnp.array(0.0), "s": jnp.array(1.0)}, {"m": C.real, "s": C.positive}


def squares(x):
    return -0.5 * (x**2).sum()


def located(data):
    return lambda p: dist.Normal(p["m"], p["s"]).log_prob(jnp.array(data)).sum()


IMPROPER = {
    "flat": lambda x: squares(x[:1]),
    "half-space": lambda x: jax.nn.log_sigmoid(x[0]) + squares(x[1:]),
    "floor": lambda x: jnp.logaddexp(squares(x), -50.0),
    "low floor": lambda x: jnp.logaddexp(squares(x[:1]), -700.0) + squares(x[1:]),
    "1 / r": lambda x: -0.5 * jnp.log1p(x[0] ** 2) + squares(x[1:]),
    "cone": lambda x: -jnp.log1p((x**2).sum()),
    "separable": lambda x: jax.nn.log_sigmoid(x[0] + jnp.array([1.0, 2.0]) * x[1]).sum(),
}
PROPER = {
    "normal": squares,
    "student": dist.MultivariateStudentT(1.0, TWO, jnp.eye(2)).log_prob,
    "cauchys": dist.Cauchy(0, 1).expand([2]).to_event(1).log_prob,
    "funnel": lambda x: dist.Normal(0, 3).log_prob(x[0]) + dist.Normal(0, jnp.exp(x[0] / 2)).log_prob(x[1]),
    "banana": lambda x: squares(x[:1]) - 5 * (x[1] - x[0] ** 2) ** 2,
}


def improper(log_density, example=TWO, support=None):
    target = pf.Target(log_density, example, support)
    return is_improper(target, np.asarray(jr.normal(jr.key(0), (2000, target.dim))), jr.key(1))


@pytest.mark.parametrize("name", IMPROPER)
def test_improper(name):
    assert improper(IMPROPER[name])


@pytest.mark.parametrize("name", PROPER)
def test_proper(name):
    assert not improper(PROPER[name])


def test_location_and_scale_without_priors_need_three_observations():
    assert improper(located([1.0, 1.2]), *LOCATION_SCALE)
    assert not improper(located([1.0, 1.2, 0.7]), *LOCATION_SCALE)


def test_bounded_supports_and_simplices_end():
    beta, dirichlet = dist.Beta(0.5, 0.5), dist.Dirichlet(jnp.full(3, 0.5))
    assert not improper(beta.log_prob, jnp.array(0.5), C.unit_interval)
    assert not improper(dirichlet.log_prob, jnp.full(3, 1 / 3), C.simplex)
    assert improper(lambda x: -jnp.log(x) - jnp.log1p(-x), jnp.array(0.5), C.unit_interval)


def test_a_line_that_ends_while_it_leaves_a_valley_shows_nothing():
    """The residuals grow, then the noise: the density rises again, as yet far below that of the fit."""
    r = np.exp(propriety.LOG_DISTANCES)
    log_p = -(r**2) * np.exp(-2e-7 * r) - 2e-5 * r
    assert log_p[-1] > log_p[-3] and log_p[-1] < log_p[0]
    assert not propriety._rises(log_p[None], np.ones(1), 0.0)
    assert propriety._rises(10 * r[None], np.ones(1), 0.0)
    # A logit saturates soon.
    ended = np.full((1, len(r)), np.nan)
    ended[0, :5] = -243.03, -256.43, -237.4, -218.24, -215.96
    assert not propriety._rises(ended, np.ones(1), 0.0)


def test_a_line_that_ends_on_its_way_out_of_a_valley_shows_nothing():
    """Beyond, the logits of a transition matrix saturate; these are log-densities of a hidden Markov model."""
    log_p = np.full((2, len(propriety.LOG_DISTANCES)), np.nan)
    log_p[0, :6] = -197.7, -239.3, -340.3, -606.0, -738.7, -495.9
    log_p[1, :7] = -368.6, -578.5, -931.5, -1506.1, -2168.6, -2543.3, -556.5
    assert not propriety._rises(log_p, np.full(2, 4.0), -170.0).any()
    higher = log_p + np.linspace(0, 60, log_p.shape[1]) * 60
    assert propriety._rises(higher, np.full(2, 4.0), -170.0).any()


def test_a_rise_that_is_rounding_noise_shows_nothing():
    """It is smooth, up to 45,000 nats high, where the exponential function overflows."""
    lines = jnp.linspace(100.0, 400.0, 7)[:, None]
    assert (jax.vmap(absorbing)(lines) > 20_000).all()
    assert not improper(absorbing, jnp.zeros(1))
    assert improper(lambda u: jnp.where(jnp.abs(u[0]) > 34, 300 * jnp.abs(u[0]), squares(u)), jnp.zeros(1))
