import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from posterior_cases import absorbing
from pushforward.posterior.rounding import cautious_log_density, is_noise, smooth_log_density


def log_density(u):
    """The difference of two log-gamma functions has no correct digit at arguments of 1e15."""
    k = jnp.exp(u[0])
    return gammaln(k + 3) - gammaln(k) - 3 * jnp.log(k)


def test_rounding_noise_is_nan():
    u = jnp.array([[0.0], [5.0], [34.0], [35.0], [36.0]])
    found = jax.vmap(lambda one: smooth_log_density(log_density, one))(u)
    assert jnp.isfinite(found[:2]).all() and jnp.isnan(found[2:]).any()


def test_smooth_densities_stay():
    u = jnp.array([1e8, -3.0])
    assert smooth_log_density(lambda u: -0.5 * ((u - jnp.array([1e8, 0.0])) ** 2).sum(), u) == -4.5
    assert smooth_log_density(lambda u: jnp.where(u[0] > 0, -jnp.inf, 0.0), u) == -jnp.inf
    assert jnp.isnan(smooth_log_density(lambda u: jnp.where(u[0] > 0, jnp.inf, 0.0), u))


def normalizer(u):
    """The logarithm of a beta function, without its leading terms."""
    k = jnp.exp(u[0])
    return gammaln(2 * k) - 2 * gammaln(k) - 2 * k * jnp.log(2.0)


def test_rounding_noise_is_never_high():
    u = jnp.linspace(60.0, 100.0, 1000)[:, None]
    assert jax.vmap(normalizer)(u).max() > 1e20
    assert jax.vmap(lambda one: cautious_log_density(normalizer, one))(u).mean() < -1e20
    u = jnp.linspace(-5.0, 20.0, 100)[:, None]
    cautious = jax.vmap(lambda one: cautious_log_density(normalizer, one))(u)
    np.testing.assert_allclose(cautious, jax.vmap(normalizer)(u), rtol=1e-12)


def test_a_boundary_near_a_point_is_no_noise():
    inside = lambda u: jnp.where(u[0] > 1, -jnp.inf, 2.0)  # noqa: E731
    assert cautious_log_density(inside, jnp.array([1.0])) == 2.0


def test_a_value_next_to_overflow_is_noise():
    """The difference of two numbers near the largest one, which is NaN where one of them overflows."""

    def overflow(u):
        return jnp.where(u[0] > 1, jnp.nan, 1e200)

    for fn in (smooth_log_density, cautious_log_density):
        assert jnp.isnan(fn(overflow, jnp.array([1.0]))) and fn(overflow, jnp.array([0.9])) == 1e200


def test_a_smooth_value_without_digits_is_noise():
    """Beyond k = 1e16 the log-gamma functions are equal, at all neighbors: the value is 300 log(k) too high."""
    u = np.array([[50.0], [60.0], [70.0]])
    assert jnp.isfinite(jax.vmap(lambda one: smooth_log_density(absorbing, one))(u)).all()
    near = np.linspace(-3, 3, 7)[:, None]
    assert is_noise(absorbing, u, near).all() and not is_noise(absorbing, near, near).any()
    mixed = is_noise(absorbing, np.concatenate([u, near]), near)
    assert mixed[:3].all() and not mixed[3:].any()
    # If the fit itself is noise, there is no reason to ignore other points.
    assert not is_noise(absorbing, u, u).any()
    assert is_noise(absorbing, u[:0], near).shape == (0,)
