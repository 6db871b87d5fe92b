import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import pushforward as pf


def test_vector_target_is_its_density():
    target = pf.Target(lambda u: -0.5 * jnp.sum(u**2), jnp.zeros(3))
    assert target.dim == 3
    assert target(jnp.array([1.0, 2.0, 3.0])) == pytest.approx(-7.0)
    np.testing.assert_allclose(target.constrain(jnp.arange(3.0)), jnp.arange(3.0))


def test_densities_integrate_to_one_over_unconstrained_space():
    target = pf.Target(lambda x: dist.Beta(2.0, 3.0).log_prob(x), jnp.array(0.5), constraints.unit_interval)
    grid = jnp.linspace(-30, 30, 20_001)[:, None]
    assert jnp.trapezoid(jnp.exp(jax.vmap(target)(grid)), grid[:, 0]) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("example", "support", "message"),
    [
        ({}, None, "empty"),
        (jnp.zeros(0), None, "not empty"),
        (jnp.array([1.0, jnp.nan]), None, "finite"),
        ({"a": jnp.array([jnp.inf])}, None, r"example\['a'\]"),
        (jnp.array([1j]), None, "real"),
        ({"a": "text"}, None, "real array"),
        ({"a": jnp.zeros(2)}, {"b": constraints.positive}, "matches the example"),
        (jnp.zeros(2), "positive", "constraints"),
        (jnp.zeros(2), constraints.positive_integer, "continuous"),
    ],
)
def test_bad_examples_and_supports(example, support, message):
    with pytest.raises(ValueError, match=message):
        pf.Target(lambda x: jnp.zeros(()), example, support)


def test_log_density_must_be_a_scalar():
    with pytest.raises(ValueError, match=r"scalar.*\(3,\)"):
        pf.Target(lambda x: x, jnp.zeros(3))


@pytest.mark.parametrize(
    ("log_density", "message"),
    [
        (lambda x: None, "None.*return statement"),
        (lambda x: jnp.sum(x > 0), "int"),
        (lambda x: jnp.sum(x) + 1j, "complex"),
        (lambda x: (x[0], x[1]), "type tuple"),
        (lambda x: 1, "type int"),
    ],
)
def test_log_density_must_be_a_real_number(log_density, message):
    with pytest.raises(TypeError, match=f"one real number.*{message}"):
        pf.Target(log_density, jnp.zeros(3))


def test_names_of_coordinates():
    target = pf.Target(lambda x: -jnp.sum(x["b"][0] ** 2), {"b": (jnp.zeros((1, 2)), jnp.array(0.0))})
    assert target.coordinate_names() == ["b.0[0, 0]", "b.0[0, 1]", "b.1"]


def test_example_outside_of_its_support_tells_the_shape():
    target = pf.Target(lambda x: -x, jnp.zeros(()), constraints.positive)
    assert jnp.isfinite(target.start).all()
