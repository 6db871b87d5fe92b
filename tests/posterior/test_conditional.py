"""Targets of models whose data come later."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.posterior.latent import latent_values


def test_a_model_that_looks_at_its_data():
    def model(y):
        mean = numpyro.sample("mean", dist.Normal(0, 2 if y[0] > 0 else 3))
        numpyro.sample("y", dist.Normal(mean, 1), obs=y)

    with pytest.raises(ValueError, match="uses the values of its data"):
        pf.ConditionalTarget.from_numpyro(model, jnp.ones(3))


def test_a_support_that_depends_on_the_data():
    def model(y):
        m = numpyro.sample("m", dist.Uniform(0, jnp.max(y)))
        numpyro.sample("y", dist.Normal(m, 1), obs=y)

    target = pf.ConditionalTarget.from_numpyro(model, jnp.array([1.0, 2.0]))
    other = target.at(jnp.array([10.0, 100.0]))
    assert other.constrain(jnp.zeros(1))["m"] == 50
    assert latent_values(other, np.zeros((1, 1))) == 50
    assert other.log_volume(jnp.zeros(1)) == pytest.approx(np.log(100 / 4))
    for kept in (target, other):
        with pytest.raises(ValueError, match="on the data of a ConditionalTarget"):
            kept.detached()


def test_a_support_that_does_not_depend_on_the_data():
    def model(y):
        m = numpyro.sample("m", dist.Uniform(0, 4))
        numpyro.sample("y", dist.Normal(m, 1), obs=y)

    target = pf.ConditionalTarget.from_numpyro(model, jnp.array([1.0, 2.0])).detached()
    assert target.at(jnp.array([10.0, 100.0])).constrain(jnp.zeros(1))["m"] == 2


def test_observed_entries_are_not_part_of_the_fit():
    mask = jnp.array([True, False, True, True])

    def model(y):
        m = numpyro.sample("m", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(m, 1).expand([4]), obs=y, obs_mask=mask)

    def by_data(y):
        m = numpyro.sample("m", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(m, 1).expand([4]), obs=y, obs_mask=y > 0)

    y = jnp.array([1.0, 0.0, 2.0, 7.0])
    target = pf.ConditionalTarget.from_numpyro(model, y)
    assert target.target.coordinate_names() == ["m", "y_unobserved[0]"]
    u, other = jnp.array([0.3, -0.2]), jnp.array([3.0, 0.0, 4.0, 5.0])
    assert target.at(other)(u) == pytest.approx(float(pf.Target.from_numpyro(model, other)(u)))
    detached = target.detached().at(other)
    np.testing.assert_allclose(detached.constrain(u)["y_unobserved"], target.at(other).constrain(u)["y_unobserved"])
    with pytest.raises(ValueError, match="entries of the sites y are observed depends on the data"):
        pf.ConditionalTarget.from_numpyro(by_data, y)
