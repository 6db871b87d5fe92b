"""NumPyro models as the density and the predictions run them."""

from fractions import Fraction

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro import handlers

import pushforward as pf
from pushforward.posterior.spaces.preparation import (
    ExpandedObservations,
    ObservedArrays,
    bare,
    held_values,
    is_factor,
    prepared,
    traced,
)


@pytest.mark.parametrize("value", [0.5, 2, np.array([0.5, 1.0]), pd.Series([0.5, 1.0]), [0.5, 1.0]])
def test_observations_are_arrays(value):
    sites = handlers.trace(ObservedArrays(lambda: numpyro.sample("y", dist.Normal(0, 1), obs=value))).get_trace()
    assert isinstance(sites["y"]["value"], jnp.ndarray)
    np.testing.assert_allclose(sites["y"]["value"], np.asarray(value))


def observed(value):
    model = ObservedArrays(lambda: numpyro.sample("y", dist.Normal(0, 1), obs=value))
    return handlers.trace(model).get_trace()["y"]["value"]


@pytest.mark.parametrize("entries", [[0.5, 1, Fraction(3, 2)], [1, 2, 3], [True, False], [np.float32(0.5), 10**30]])
def test_objects_that_are_real_numbers_are_converted(entries):
    value = observed(np.array(entries, dtype=object))
    np.testing.assert_allclose(value, np.array([float(entry) for entry in entries]))
    assert jnp.issubdtype(value.dtype, jnp.floating) == (not isinstance(entries[0], int))


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (np.array([0.5, "high"], dtype=object), "site y must be an array of numbers, but holds 'high'"),
        (np.array(["low", "high"]), "holds 'low'"),
        (np.array([0.5, None], dtype=object), "holds 'None'.*missing values"),
        (pd.Series(list("abc")), "holds 'a'"),
        (pd.Series(pd.date_range("2024", periods=3)), "holds .*days since a date"),
        (np.array(["2024-01-01"], dtype="datetime64[D]"), "holds .*days since a date"),
    ],
)
def test_other_observations_are_refused(value, match):
    with pytest.raises(TypeError, match=match):
        observed(value)


def test_distributions_are_expanded_to_observations():
    def model():
        with numpyro.plate("rows", 4):
            numpyro.sample("y", dist.Dirichlet(jnp.ones(3)), obs=jnp.full((5, 4, 3), 1 / 3))

    sites = handlers.trace(ExpandedObservations(model)).get_trace()
    assert sites["y"]["fn"].batch_shape == (5, 4)


def test_factors_are_found_inside_of_masks_and_plates():
    def model():
        numpyro.factor("bare", -1.0)
        with numpyro.plate("rows", 3), handlers.mask(mask=jnp.array([True, False, True])):
            numpyro.factor("inside", -1.0)
            numpyro.sample("y", dist.Normal(0, 1).mask(True), obs=jnp.zeros(3))
            numpyro.sample("z", dist.Normal(jnp.zeros(2), 1).to_event(1), obs=jnp.zeros((3, 2)))

    sites = handlers.trace(model).get_trace()
    assert {name for name, site in sites.items() if site["type"] == "sample" and is_factor(site)} == {"bare", "inside"}
    assert isinstance(bare(sites["z"]["fn"]), dist.Normal)


def test_held_values_are_those_of_the_first_trace():
    def model():
        numpyro.deterministic("first", numpyro.param("w", lambda key: dist.Normal(0, 1).sample(key)))
        numpyro.deterministic("key", dist.Normal(0, 1).sample(numpyro.prng_key()))

    sites = traced(model, (), {}, seed=0)
    again = [handlers.trace(handlers.seed(prepared(model, held_values(sites)), seed)).get_trace() for seed in (1, 2)]
    assert again[0]["first"]["value"] == again[1]["first"]["value"] == sites["first"]["value"]
    assert again[0]["key"]["value"] == again[1]["key"]["value"]


@pytest.mark.parametrize("limit", [1.0, 0.3, 0.05])
def test_models_that_raise_far_out_are_traced(limit):
    def model():
        x = numpyro.sample("x", dist.Normal(jnp.zeros(8), 1e-3).to_event(1))
        numpyro.deterministic("y", eqx.error_if(x, jnp.max(jnp.abs(x)) > limit, "too far"))

    sites = traced(model, (), {}, seed=0)
    assert float(jnp.max(jnp.abs(sites["x"]["value"]))) <= limit
    other = traced(model, (), {}, seed=1)
    assert not np.array_equal(sites["x"]["value"], other["x"]["value"])


def test_models_that_raise_everywhere_are_refused():
    def model():
        numpyro.deterministic("y", eqx.error_if(numpyro.sample("x", dist.Normal(0, 1)), True, "no solution"))

    with pytest.raises(ValueError, match="raises an error at all of 8 random values.*no solution"):
        traced(model, (), {}, seed=0)


@pytest.mark.parametrize(
    ("error", "runs"),
    [(KeyError, 1), (TypeError, 1), (NameError, 1), (NotImplementedError, 1), (RecursionError, 1), (ValueError, 8)],
)
def test_errors_of_the_code_are_raised_as_they_are(error, runs):
    found = []

    def model():
        found.append(numpyro.sample("x", dist.Normal(0, 1)))
        raise error(f"missing column, run {len(found)}")

    with pytest.raises(error, match="missing column, run 1"):
        traced(model, (), {}, seed=0)
    assert len(found) == runs


@pytest.mark.parametrize("error", [ValueError, FloatingPointError, np.linalg.LinAlgError, AssertionError])
def test_errors_that_may_come_from_values_are_tried_again(error):
    def model():
        x = numpyro.sample("x", dist.Normal(0, 1))
        found.append(x)
        if abs(x) > 0.3:
            raise error("too large")

    found = []
    assert abs(traced(model, (), {}, seed=1)["x"]["value"]) <= 0.3
    assert len(found) > 1


def test_names_alone_are_no_circular_reparam():
    def model():
        phase = numpyro.sample("phase_unwrapped", dist.Normal(0, 1))
        numpyro.factor("phase_factor", -0.1 * phase**2)

    assert pf.Target.from_numpyro(model).dim == 1
