"""The recipes: every flow trains with both objectives, has both directions, and takes a condition and a base."""

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import pushforward as pf
from products import few
from pushforward.testing import randomize

RECIPES = [name for name, value in vars(pf.flows).items() if inspect.isfunction(value)]
SMALL = {"num_layers": 2, "hidden": (8,), "units": 4, "bins": 4}
TARGET = dist.MultivariateNormal(jnp.array([1.0, -2.0]), jnp.array([[1.0, 0.6], [0.6, 1.5]]))


def build(recipe, dim, small=SMALL, **options):
    make = getattr(pf.flows, recipe)
    accepted = inspect.signature(make).parameters
    return make(dim, key=jr.key(0), **{k: v for k, v in small.items() if k in accepted}, **options)


def test_every_family_has_a_recipe():
    assert {*RECIPES} >= {
        *("linear", "planar", "radial", "sylvester", "nice", "realnvp", "nsf", "maf", "iaf", "naf", "unaf"),
        *("residual", "continuous", "gaussianization"),
    }


@pytest.mark.parametrize("recipe", few(RECIPES, "nsf", "iaf", "residual"))
def test_draws_have_their_density(recipe):
    """Forward and inverse agree, far from the initial parameters, with and without a condition."""
    for cond_dim in (None, 2):
        flow = randomize(build(recipe, 3, cond_dim=cond_dim), jr.key(1), 0.5)
        condition = None if cond_dim is None else jr.normal(jr.key(2), (5, 2))
        x, log_prob = flow.sample_and_log_prob(jr.key(3), (5,) if condition is None else (), condition)
        assert x.shape == (5, 3)
        np.testing.assert_allclose(flow.log_prob(x, condition), log_prob, rtol=1e-6, atol=1e-6)
        if condition is not None:
            assert not np.allclose(flow.log_prob(x, condition[::-1]), log_prob)


# `circular` is for angles. `benchmarks/toys.py` trains to known optima.
@pytest.mark.parametrize("recipe", few((name for name in RECIPES if name != "circular"), "realnvp"))
def test_trains_by_both_objectives(recipe):
    """A few steps at least halve the divergence from a Gaussian, for both objectives."""
    data = TARGET.sample(jr.key(5), (4000,))
    entropy = float(TARGET.entropy())
    for side, objective, floor in (
        ("sampling", pf.ReverseKL(TARGET.log_prob, 64), 0.0),
        ("density", pf.ForwardKL(data), entropy),
    ):
        options = {"fast": side} if "fast" in inspect.signature(getattr(pf.flows, recipe)).parameters else {}
        options |= {"rtol": 1e-4, "atol": 1e-4} if recipe == "continuous" else {}
        flow = build(recipe, 2, SMALL | {"num_layers": 4}, **options)
        first = float(objective.evaluate(flow, jr.key(6))) - floor
        flow, history = pf.train(
            flow, objective, key=jr.key(7), steps=300, optimizer=optax.adam(2e-2), num_evaluations=3
        )
        last = float(objective.evaluate(flow, jr.key(6))) - floor
        assert np.isfinite(history.losses).all()
        assert last < first / 2, (side, first, last)


@pytest.mark.parametrize("recipe", few(RECIPES, "residual"))
def test_recipes_are_made_inside_compiled_programs(recipe):
    """`jax.vmap` over seeds makes several flows at once, and `eval_shape` only their shapes."""

    def log_prob(key):
        flow = getattr(pf.flows, recipe)(3, key=key)
        return flow.log_prob(jnp.ones(3))

    keys = jr.split(jr.key(0), 2)
    np.testing.assert_allclose(jax.vmap(log_prob)(keys)[0], log_prob(keys[0]), rtol=1e-6)
    assert jax.eval_shape(log_prob, keys[0]).shape == ()


@pytest.mark.parametrize("recipe", ["naf", "planar", "residual"])
def test_the_fast_side_is_a_choice(recipe):
    flow = randomize(build(recipe, 3, fast="density"), jr.key(1), 0.5)
    assert "Invert(" in str(flow)
    assert "Invert(" not in str(build(recipe, 3, fast="sampling"))
    x, log_prob = flow.sample_and_log_prob(jr.key(3), (5,))
    np.testing.assert_allclose(flow.log_prob(x), log_prob, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="fast must be.*'both'"):
        build(recipe, 3, fast="both")


@pytest.mark.parametrize("recipe", RECIPES)
def test_base_and_bad_arguments(recipe):
    heavy = pf.Learnable(dist.StudentT(5.0, jnp.zeros(3), 1.0).to_event(1))
    flow = build(recipe, 3, base=heavy)
    assert flow.base is heavy
    with pytest.raises(ValueError, match="dim"):
        build(recipe, 0)
    with pytest.raises(ValueError, match="cond_dim"):
        build(recipe, 3, cond_dim=0)


def test_bad_options():
    for options, message in (
        ({"recipe": "linear", "factors": "svd"}, "factors must be 'triangular' or 'plu' or 'qr', but is 'svd'"),
        ({"recipe": "realnvp", "num_layers": 0}, "num_layers must be a whole number .* is 0"),
        ({"recipe": "sylvester", "num_units": 4}, "num_units=4"),
        ({"recipe": "residual", "lipschitz": 1.0}, "lipschitz must be a number .* is 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            recipe = options.pop("recipe")
            build(recipe, 3, {k: v for k, v in SMALL.items() if k not in options}, **options)


def test_ensembles_are_made_under_vmap():
    flows = eqx.filter_vmap(lambda key: pf.flows.realnvp(3, num_layers=2, hidden=(4,), key=key))(jr.split(jr.key(0), 5))
    u = jnp.arange(3.0)
    moved = eqx.filter_vmap(lambda flow: flow.bijection.forward(u))(flows)
    assert moved.shape == (5, 3) and len(np.unique(np.round(moved, 6), axis=0)) > 1
    np.testing.assert_allclose(jnp.sort(moved, axis=1), jnp.tile(u, (5, 1)), atol=1e-6)
