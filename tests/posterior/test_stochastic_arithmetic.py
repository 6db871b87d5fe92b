import jax
import jax.numpy as jnp
import pytest
from jax.scipy.special import gammaln

from pushforward.posterior.stochastic_arithmetic import spread_of_runs


def spread(fn, *u):
    return float(jax.jit(lambda u: spread_of_runs(fn, u))(jnp.array(u)))


def test_terms_that_absorb_a_difference():
    """Log-gamma(x + 1) - log-gamma(x) is log(x); its terms are x log(x), of which 16 digits are known."""

    def fn(u):
        return gammaln(u[0] + 1) - gammaln(u[0])

    assert fn(jnp.array([1e25])) == 0 and spread(fn, 1e25) > 1e9
    for x in (10.0, 1e5, 1e10):
        assert 1e-17 * gammaln(x) < spread(fn, x) < 1e-14 * gammaln(x)


def test_wide_sums_of_good_digits():
    def fn(u):
        return -0.5 * jnp.sum(((jnp.arange(1000.0) - u[0]) / u[1]) ** 2) - jnp.log(u[1])

    assert spread(fn, 3.0, 1e-3) < 1e-16 * 100 * -fn(jnp.array([3.0, 1e-3]))


def test_small_integers_are_exact():
    assert spread(lambda u: jnp.where(2 * u[0] + 1 == 7.0, 0.0, 1e9), 3.0) == 0.0
    assert spread(lambda u: (u[0] + 2e16) - 2e16, 3.0) >= 2.0


def with_derivative_rule(fn):
    wrapped = jax.custom_jvp(fn)
    wrapped.defjvps(lambda tangent, _, u: tangent[0])
    return wrapped


@pytest.mark.parametrize("call", [jax.jit, jax.checkpoint, with_derivative_rule])
def test_operations_of_inner_functions_are_rounded(call):
    absorbs, sums = call(lambda u: (u[0] + 1e17) - 1e17), call(lambda u: (u[0] + 0.1) - 0.1)
    assert spread(absorbs, 3.0) > 1 and 0 < spread(sums, 3.3) < 1e-14


def test_loops_count_as_one_operation():
    def sums(u):
        return jax.lax.scan(lambda total, x: (total + x * u[0], None), 1e17, jnp.ones(5))[0]

    assert spread(sums, 1.0) > 1 and spread(lambda u: sums(u) * 1e-17, 1.0) < 1e-14


def test_values_that_are_not_finite_show_nothing():
    assert spread(lambda u: jnp.log(-u[0]), 1.0) == 0.0
    assert spread(lambda u: jnp.where(u[0] * 1.1 > 0, -jnp.inf, u[0]), 1.0) == 0.0


def test_float32():
    u = jnp.array([3.0], jnp.float32)
    assert spread_of_runs(lambda u: (u[0] + 1e8) - 1e8, u).dtype == jnp.float32
    assert spread_of_runs(lambda u: (u[0] + 1e8) - 1e8, u) > 1
