"""NumPyro models as the density and the predictions run them."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro import handlers

from pushforward.posterior.spaces.preparation import ExpandedObservations, ObservedArrays, held_values, prepared, traced


@pytest.mark.parametrize("value", [0.5, 2, np.array([0.5, 1.0]), pd.Series([0.5, 1.0]), [0.5, 1.0]])
def test_observations_are_arrays(value):
    sites = handlers.trace(ObservedArrays(lambda: numpyro.sample("y", dist.Normal(0, 1), obs=value))).get_trace()
    assert isinstance(sites["y"]["value"], jnp.ndarray)
    np.testing.assert_allclose(sites["y"]["value"], np.asarray(value))


def test_distributions_are_expanded_to_observations():
    def model():
        with numpyro.plate("rows", 4):
            numpyro.sample("y", dist.Dirichlet(jnp.ones(3)), obs=jnp.full((5, 4, 3), 1 / 3))

    sites = handlers.trace(ExpandedObservations(model)).get_trace()
    assert sites["y"]["fn"].batch_shape == (5, 4)


def test_held_values_are_those_of_the_first_trace():
    def model():
        numpyro.deterministic("first", numpyro.param("w", lambda key: dist.Normal(0, 1).sample(key)))
        numpyro.deterministic("key", dist.Normal(0, 1).sample(numpyro.prng_key()))

    sites = traced(model, (), {}, seed=0)
    again = [handlers.trace(handlers.seed(prepared(model, held_values(sites)), seed)).get_trace() for seed in (1, 2)]
    assert again[0]["first"]["value"] == again[1]["first"]["value"] == sites["first"]["value"]
    assert again[0]["key"]["value"] == again[1]["key"]["value"]
