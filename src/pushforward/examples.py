"""The models and the data of `pushforward demo`."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

# Effects of coaching on test scores in eight schools, and their standard errors.
# Rubin, Estimation in Parallel Randomized Experiments (1981), table 1.
EIGHT_SCHOOLS = {
    "y": [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0],
    "sigma": [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0],
}


def eight_schools_noncentered(y, sigma):
    """School effects theta = mu + tau t with standard normal t, whose posterior is close to a Gaussian.

    Args:
        y: the measured effects.
        sigma: their standard errors.
    """
    y, sigma = jnp.asarray(y), jnp.asarray(sigma)
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", len(y)):
        t = numpyro.sample("t", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * t)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def eight_schools_centered(y, sigma):
    """The same posterior in terms of theta itself: a funnel, which is hard for all methods.

    Args:
        y: the measured effects.
        sigma: their standard errors.
    """
    y, sigma = jnp.asarray(y), jnp.asarray(sigma)
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", len(y)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)
