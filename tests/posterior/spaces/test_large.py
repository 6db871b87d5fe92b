"""Densities of a prior and of rows: equal to the density of everything at once, and likelihoods that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import pushforward as pf
from pushforward.posterior.spaces.base import UnavailablePrediction

X = np.random.default_rng(0).normal(size=501)


def log_prior(draw):
    return dist.Normal(0.0, 2.0).log_prob(draw["mean"]) + dist.Exponential(1.0).log_prob(draw["scale"])


def log_likelihood(draw, rows):
    return dist.Normal(draw["mean"], draw["scale"]).log_prob(rows)


EXAMPLE, SUPPORT = {"mean": 0.0, "scale": 1.0}, {"mean": constraints.real, "scale": constraints.positive}


def large(fn=log_likelihood, data=X, **options):
    return pf.Target(log_prior, EXAMPLE, SUPPORT, log_likelihood=fn, data=data, **options)


def test_the_density_is_that_of_all_rows_with_its_gradient():
    whole = pf.Target(lambda draw: log_prior(draw) + log_likelihood(draw, X).sum(), EXAMPLE, SUPPORT)
    target, u = large(batch_size=100), jnp.array([0.3, -0.2])
    for of in (lambda t: t, jax.grad):
        np.testing.assert_allclose(of(target)(u), of(whole)(u), rtol=1e-10)
    np.testing.assert_allclose(target.log_volume(u), whole.log_volume(u))
    np.testing.assert_allclose(target.unconstrain(target.constrain(u)), u)


def test_predictions_of_rows_are_named_as_missing():
    space = large().space
    for predict in (space.pointwise_log_likelihood, lambda draw: space.replicate(draw, jax.random.key(0))):
        with pytest.raises(UnavailablePrediction, match="501 rows"):
            predict(EXAMPLE)


def test_a_detached_target_holds_no_data():
    assert not [leaf for leaf in jax.tree.leaves(large().detached()) if getattr(leaf, "size", 0) > 10]


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda draw, rows: log_likelihood(draw, rows).sum(), r"has shape \(\): it must not sum over rows"),
        (lambda draw, rows: log_likelihood(draw, rows)[:, None], r"has shape \(100, 1\)"),
        (lambda draw, rows: log_likelihood(draw, rows).sum() * jnp.ones(rows.shape), "depends on the other rows"),
        (lambda draw, rows: jax.nn.log_softmax(rows), "depends on the other rows"),
        (lambda draw, rows: draw["mean"] * jax.nn.log_softmax(rows), "depends on the other rows"),
    ],
)
def test_likelihoods_that_are_not_of_single_rows_are_refused(fn, words):
    with pytest.raises(ValueError, match=words):
        large(fn, batch_size=100)


@pytest.mark.parametrize(
    ("size", "kind", "words"),
    [
        (502, ValueError, "an integer between 1 and the number of rows of data, 501"),
        (0, ValueError, "a whole number"),
        (2.5, TypeError, "a whole number"),
        (True, TypeError, "a whole number"),
    ],
)
def test_batch_sizes_that_rows_do_not_have_are_refused(size, kind, words):
    with pytest.raises(kind, match=f"batch_size must be {words}"):
        large(batch_size=size)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": X}, "data is given without log_likelihood"),
        ({"log_likelihood": log_likelihood}, "log_likelihood is given without data"),
        ({"batch_size": 10}, "it needs data and log_likelihood"),
    ],
)
def test_arguments_that_belong_together_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        pf.Target(log_prior, EXAMPLE, SUPPORT, **options)


def test_a_likelihood_that_is_no_function_is_named():
    with pytest.raises(TypeError, match="log_likelihood must be a function or None, but is 3.0"):
        pf.Target(log_prior, EXAMPLE, SUPPORT, log_likelihood=3.0, data=X)
