"""Natural-gradient steps: exact for Gaussians, at the ELBO's maximum otherwise, and not in the neck of a funnel."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from posterior_cases import gaussian_target
from pushforward.posterior.search.natural_gradient import natural_gradient_steps


def test_a_gaussian_is_found_exactly_whatever_its_scales():
    target, d = gaussian_target(6, 3, 1e4)
    loc, factor = natural_gradient_steps(target, jnp.zeros(6), jnp.eye(6), jr.key(0), 80, 80, 8)
    np.testing.assert_allclose(loc, d.mean, atol=1e-6 * float(jnp.sqrt(d.variance).max()))
    np.testing.assert_allclose(factor @ factor.T, d.covariance_matrix, rtol=1e-5, atol=1e-6)


def log_density(x):
    """A standard normal variable, and the logarithm of an Exp(1) variable."""
    return -0.5 * x[0] ** 2 + x[1] - jnp.exp(x[1])


def test_the_optimum_of_a_skewed_density():
    # E[exp(x)] = exp(m + s^2/2), so the ELBO m - exp(m + s^2/2) + log s has its maximum at s = 1, m = -1/2.
    loc, factor = natural_gradient_steps(log_density, jnp.ones(2), 0.1 * jnp.eye(2), jr.key(1), 2000, 50, 8)
    np.testing.assert_allclose(loc, [0.0, -0.5], atol=0.03)
    np.testing.assert_allclose(factor, np.eye(2), atol=0.03)


@pytest.mark.parametrize("start", [1.0, -4.0])
def test_it_does_not_fall_into_the_neck_of_a_funnel(start):
    """The density of 20 N(0, exp(v/2)) variables grows without bound as v falls; the mass is near v = 0."""

    def funnel(x):
        return -0.5 * (x[0] / 3) ** 2 - 0.5 * jnp.sum(x[1:] ** 2) * jnp.exp(-x[0]) - 10 * x[0]

    at = jnp.zeros(21).at[0].set(start)
    loc, factor = natural_gradient_steps(funnel, at, 0.3 * jnp.eye(21), jr.key(0), 100, 50, 8)
    assert min(-3.0, start) < float(loc[0]) < 3 and 0.1 < float(factor[0, 0]) < 3


def test_draws_where_the_density_is_not_finite_are_left_out():
    half = lambda x: jnp.where(x[0] > -1.0, -0.5 * jnp.sum(x**2), jnp.nan)  # noqa: E731
    loc, factor = natural_gradient_steps(half, jnp.zeros(2), jnp.eye(2), jr.key(0), 20, 10, 8)
    assert np.isfinite(loc).all() and np.isfinite(factor).all()


def test_few_draws_in_many_dimensions():
    """The noise of single steps is averaged out."""
    rates = jnp.linspace(1.0, 5.0, 600)
    target = lambda x: jnp.sum(rates * x - jnp.exp(x))  # noqa: E731
    loc, factor = natural_gradient_steps(target, jnp.zeros(600), 0.3 * jnp.eye(600), jr.key(0), 60, 20, 3)
    # E[exp(x)] = exp(m + s^2/2), so the optimum is at s^2 = 1 / rate and m = log(rate) - s^2/2.
    np.testing.assert_allclose(loc, jnp.log(rates) - 0.5 / rates, atol=0.2)
    np.testing.assert_allclose(jnp.sum(factor**2, 1) * rates, 1.0, atol=0.25)
