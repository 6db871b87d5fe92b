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
