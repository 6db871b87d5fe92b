"""Flows of angles are continuous where the circle is cut."""

import math

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats

import pushforward as pf
from products import few
from pushforward import bijections as bj
from pushforward.testing import randomize


def moved(dim, angles, scale=1.0, **options):
    flow = pf.flows.circular(dim, angles=angles, key=jr.key(0), num_layers=2, hidden=(8,), bins=4, **options)
    return pf.Flow(flow.base, randomize(flow.bijection, jr.key(1), scale))


@pytest.mark.parametrize("angles", few([(True, False, True), (True,)], (True, False, True)))
def test_one_density_on_both_sides_of_the_cut(angles):
    flow = moved(len(angles), angles)
    i = angles.index(True)
    x = flow.sample(jr.key(2), (20,))
    assert jnp.all(jnp.abs(x[:, i]) <= math.pi)
    left, right = (flow.log_prob(x.at[:, i].set(end)) for end in (-math.pi + 1e-9, math.pi - 1e-9))
    np.testing.assert_allclose(left, right, atol=1e-5)
    x, log_prob = flow.sample_and_log_prob(jr.key(3), (1000,))
    np.testing.assert_allclose(flow.log_prob(x), log_prob, atol=1e-8)
    assert jnp.all(flow.log_prob(x.at[:, i].set(4.0)) == -jnp.inf)


def test_densities_integrate_to_one():
    angle, line = np.linspace(-math.pi, math.pi, 201)[:-1], np.linspace(-15, 15, 1201)
    grid = np.stack(np.meshgrid(angle, line, indexing="ij"), -1)
    total = np.exp(moved(2, [True, False], 0.3).log_prob(grid)).sum() * (angle[1] - angle[0]) * (line[1] - line[0])
    assert total == pytest.approx(1, abs=2e-3)
    grid = np.stack(np.meshgrid(angle, angle, indexing="ij"), -1)
    total = np.exp(moved(2, [True, True]).log_prob(grid)).sum() * (angle[1] - angle[0]) ** 2
    assert total == pytest.approx(1, abs=2e-3)


@pytest.mark.conformance
def test_angles_are_fitted_across_the_cut():
    """Angles around north, near 0 and near 360 degrees."""
    rng = np.random.default_rng(0)
    north = scipy.stats.vonmises(4.0)
    x = np.degrees(north.rvs((1500, 1), random_state=rng)) + 360
    flow = pf.flows.circular(1, key=jr.key(0), num_layers=1, hidden=(4,), bins=6)
    options = {"flow": flow, "learning_rate": 3e-2, "max_epochs": 150, "progress": False}
    flow = pf.fit_density(x, key=jr.key(1), support=pf.Circular(360.0), **options)
    at = np.linspace(1, 359, 180)
    density = np.exp(flow.log_prob(at[:, None]))
    expected = north.pdf(np.radians((at + 180) % 360 - 180)) * math.pi / 180
    assert np.abs(density - expected).sum() * 2 < 0.15
    assert float(flow.log_prob(jnp.array([1e-6]))) == pytest.approx(
        float(flow.log_prob(jnp.array([360 - 1e-6]))), abs=1e-3
    )
    draws = flow.sample(jr.key(2), (500,))
    assert jnp.all((draws >= 0) & (draws <= 360)) and jnp.mean((draws > 90) & (draws < 270)) < 0.1


def test_refused():
    with pytest.raises(ValueError, match="positive, finite period"):
        pf.Circular(0.0)
    with pytest.raises(ValueError, match="angles where the support is circular"):
        x = np.random.default_rng(0).uniform(size=(50, 2))
        pf.fit_density(x, key=jr.key(0), support=pf.Circular(1.0), flow=pf.flows.linear(2, key=jr.key(0)))
    with pytest.raises(ValueError, match="one entry of circles"):
        bj.OntoCircles(bj.Identity((2,)), [None])
