"""Discrete latent sites."""

import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import pushforward as pf
from model_cases import CASES, Y
from pushforward.posterior.predictions import discrete, predict


def test_discrete_draws_are_of_their_conditional_distribution():
    space = pf.Target.from_numpyro(CASES["mixture"].model, Y).space
    draw = {"w": jnp.array([0.3, 0.7]), "m": jnp.array([-0.5, 0.8])}
    draws = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (1, 2000, *leaf.shape)), draw)
    chosen = predict(discrete, space, draws, jr.key(0))["k"]
    assert chosen.shape == (1, 2000, 6)
    both = np.array([0.3, 0.7]) * np.exp(-0.5 * (Y[:, None] - np.array([-0.5, 0.8])) ** 2)
    np.testing.assert_allclose(chosen[0].mean(0), both[:, 1] / both.sum(1), atol=5 * 0.5 / np.sqrt(2000))


def test_missing_plate_is_an_error():
    def model():
        m = numpyro.sample("m", dist.Normal(0, 1))
        k = numpyro.sample("k", dist.Bernoulli(0.3))
        numpyro.sample("y", dist.Normal(m + k, 1.0), obs=jnp.asarray(Y))

    with pytest.raises(ValueError, match="site y of batch shape .* has no plate"):
        pf.Target.from_numpyro(model)


def test_funsor_and_the_site_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "funsor", None)
    with pytest.raises(ImportError, match=r"latent sites k are discrete.*pushforward\[discrete\]"):
        pf.Target.from_numpyro(CASES["mixture"].model, Y)


def test_other_marks_are_refused():
    def model():
        numpyro.sample("m", dist.Normal(0, 1))
        numpyro.sample("k", dist.Bernoulli(0.3), infer={"enumerate": "sequential"})

    with pytest.raises(ValueError, match="k must be marked.*'sequential'"):
        pf.Target.from_numpyro(model)


def test_events_that_cannot_be_enumerated_are_named():
    def model():
        m = numpyro.sample("m", dist.Normal(0, 1))
        k = numpyro.sample("k", dist.Bernoulli(0.3).expand([3]).to_event(1))
        numpyro.sample("y", dist.Normal(m + k.sum(), 1.0), obs=1.3)

    with pytest.raises(ValueError, match="cannot enumerate the discrete latent site k.*numpyro.plate instead of to_ev"):
        pf.Target.from_numpyro(model)
