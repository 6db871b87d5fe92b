"""Estimates from some rows: unbiased in value and gradient for every order, with noise that control variates remove."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from pushforward.posterior.estimate import Estimate, Expansions, derivatives, noise

NUM_ROWS, NUM_GROUPS = 2000, 20


@functools.cache
def logistic():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(NUM_ROWS, 2))
    data = {"x": x, "y": (generator.random(NUM_ROWS) < 1 / (1 + np.exp(-x.sum(1)))).astype(float)}

    def log_likelihood(draw, rows):
        z = rows["x"] @ draw
        return rows["y"] * z - jax.nn.softplus(z)

    return pf.Target(lambda draw: -0.5 * jnp.sum(draw**2), jnp.zeros(2), log_likelihood=log_likelihood, data=data)


def estimate(order, locs=((1.0, 1.0),)):
    target = logistic()
    rows = target.space.rows.values
    expansions = None
    if order:
        exact = Estimate(target, rows, None, jr.key(0))
        found = derivatives(exact._likelihood, jnp.array(locs), order)
        expansions = Expansions(jnp.array(locs), jnp.full(2, 0.05), found)
    return Estimate(target, jax.tree.map(lambda a: a[:100], rows), expansions, jr.key(0))


@pytest.mark.parametrize(("order", "locs"), [(0, ((1.0, 1.0),)), (1, ((1.0, 1.0),)), (2, ((1.0, 1.0), (-1.0, 0.5)))])
def test_the_mean_over_all_batches_is_the_density_of_all_rows(order, locs):
    """Also far from the expansion, and with two expansions."""
    found, target = estimate(order, locs), logistic()
    groups = jax.tree.map(lambda a: a.reshape(NUM_GROUPS, -1, *a.shape[1:]), target.space.rows.values)

    @jax.jit
    def mean(u):
        return jnp.mean(jax.vmap(lambda rows: found.on(rows)(u))(groups))

    for u in (jnp.array([1.1, 0.9]), jnp.array([-2.0, 3.0])):
        np.testing.assert_allclose(mean(u), target(u), rtol=1e-9)
        np.testing.assert_allclose(jax.grad(mean)(u), jax.grad(target)(u), rtol=1e-7)


def test_control_variates_remove_noise_near_the_mode():
    draws = 1 + 0.05 * jr.normal(jr.key(1), (32, 2))
    none, first, second = (float(noise(estimate(order), draws)) for order in (0, 1, 2))
    assert second < 0.05 * first < 0.05**2 * none


@pytest.mark.parametrize("num", [1, 7])
def test_fewer_rows_than_groups(num):
    few = estimate(0).on(jax.tree.map(lambda a: a[:num], logistic().space.rows.values))
    found = float(noise(few, jnp.zeros((4, 2)) + jnp.arange(4.0)[:, None]))
    assert np.isfinite(found) and (found > 0) == (num > 1)
