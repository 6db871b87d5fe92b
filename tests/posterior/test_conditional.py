"""Targets of models whose data come later."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import pytest

import pushforward as pf


def test_a_model_that_looks_at_its_data():
    def model(y):
        mean = numpyro.sample("mean", dist.Normal(0, 2 if y[0] > 0 else 3))
        numpyro.sample("y", dist.Normal(mean, 1), obs=y)

    with pytest.raises(ValueError, match="uses the values of its data"):
        pf.ConditionalTarget.from_numpyro(model, jnp.ones(3))
