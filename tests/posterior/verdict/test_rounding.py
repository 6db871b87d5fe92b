import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from pushforward.posterior.verdict.rounding import smooth_log_density


def test_rounding_noise_is_nan():
    """The difference of two log-gamma functions has no correct digit at arguments of 1e15."""

    def log_density(u):
        k = jnp.exp(u[0])
        return gammaln(k + 3) - gammaln(k) - 3 * jnp.log(k)

    u = jnp.array([[0.0], [5.0], [34.0], [35.0], [36.0]])
    found = jax.vmap(lambda one: smooth_log_density(log_density, one))(u)
    assert jnp.isfinite(found[:2]).all() and jnp.isnan(found[2:]).any()


def test_smooth_densities_stay():
    u = jnp.array([1e8, -3.0])
    assert smooth_log_density(lambda u: -0.5 * ((u - jnp.array([1e8, 0.0])) ** 2).sum(), u) == -4.5
    assert smooth_log_density(lambda u: jnp.where(u[0] > 0, -jnp.inf, 0.0), u) == -jnp.inf
    assert jnp.isnan(smooth_log_density(lambda u: jnp.where(u[0] > 0, jnp.inf, 0.0), u))
