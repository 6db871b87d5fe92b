import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import constraints

import pushforward as pf
from pushforward.posterior.properness import check_proper
from pushforward.posterior.search.candidates import Candidate


def best(loc, matrix):
    """A Gaussian as the search finds it."""
    return Candidate(np.asarray(loc, float), np.asarray(matrix, float), 0.0, 0.0, 0.0)


def test_an_unused_site_is_named():
    example = {"a": jnp.zeros(2), "b": jnp.array(1.0)}
    target = pf.Target(
        lambda x: -0.5 * jnp.sum(x["a"][0] ** 2 + x["b"] ** 2),
        example,
        {"a": constraints.real, "b": constraints.positive},
    )
    with pytest.raises(ValueError, match=r"^a\[1\] is not informed by the model"):
        check_proper(target, best(np.zeros(3), np.diag([1.0, 1e10, 1.0])))


def test_a_combination_that_cancels_is_named():
    example = {"a": jnp.zeros(()), "b": jnp.array(1.0), "c": jnp.array(1.0)}
    target = pf.Target(lambda x: -0.5 * (x["a"] + x["b"]) ** 2 - x["c"] ** 2, example)
    direction = np.array([1.0, -1.0, 0.0]) / np.sqrt(2)
    with pytest.raises(ValueError, match="^a, b, or combinations of them, are not informed"):
        check_proper(target, best(np.zeros(3), np.eye(3) + 1e5 * np.outer(direction, direction)))


def test_a_density_that_grows_without_bound_is_improper():
    target = pf.Target(lambda x: jnp.zeros(()), jnp.array(1.0), constraints.positive)  # in log x it grows
    with pytest.raises(ValueError, match="^the draw is not informed"):
        check_proper(target, best([0.0], [[1e8]]))
    with pytest.raises(ValueError, match="^the draw is not informed"):
        check_proper(target, best([1e30], [[1.0]]))


@pytest.mark.parametrize("dim", [1, 40])
def test_a_constant_density_is_improper(dim):
    with pytest.raises(ValueError, match=r"^the draw\[0\].* not informed"):
        check_proper(pf.Target(lambda x: jnp.array(2.0), jnp.zeros(dim)), best(np.zeros(dim), np.eye(dim)))


@pytest.mark.parametrize("lose", [jax.lax.stop_gradient, jnp.round, lambda x: x.astype(int)])
def test_a_lost_derivative_is_named(lose):
    target = pf.Target(lambda x: -jnp.sum(lose(x[0]) ** 2) - x[1] ** 2, jnp.zeros(2))
    for wide in (1.0, 1e5):
        with pytest.raises(ValueError, match=r"^the log-density changes with the draw\[0\], but its derivative is 0"):
            check_proper(target, best(np.zeros(2), np.diag([wide, 1.0])))


@pytest.mark.parametrize(
    "log_density",
    [
        lambda x: -0.5 * jnp.sum(x**2),
        lambda x: -jnp.sum(jnp.maximum(jnp.abs(x) - 5, 0) ** 2),
        lambda x: -jnp.sum(jnp.maximum(jnp.abs(x) - 5000, 0) ** 2),
    ],
)
def test_flat_but_proper_densities_pass(log_density):
    check_proper(pf.Target(log_density, jnp.zeros(2)), best(np.zeros(2), np.eye(2)))


@pytest.mark.parametrize("scale", [1.0, 1e6, 1e9])
def test_proper_posteriors_of_any_width_pass(scale):
    """A wide Gaussian, a heavy tail, and the neck of a funnel."""

    def log_density(x):
        return (
            -0.5 * (x[0] / scale) ** 2 - jnp.log1p((x[1] / scale) ** 2) - 0.5 * x[2] ** 2 - x[3] ** 2 * jnp.exp(-x[2])
        )

    check_proper(pf.Target(log_density, jnp.ones(4)), best(np.ones(4), np.diag([scale, scale, 1e4, 1e4])))
