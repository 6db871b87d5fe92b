import jax
import jax.numpy as jnp
import jax.random as jr
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


def test_supports_of_a_pytree_and_their_volumes():
    example = {"scale": jnp.array(1.0), "weights": jnp.full(3, 1 / 3), "rest": [jnp.zeros((2, 2)), jnp.array(0.5)]}
    support = {
        "scale": constraints.positive,
        "weights": constraints.simplex,
        "rest": [constraints.real, constraints.unit_interval],
    }

    def log_density(x):
        return (
            dist.Gamma(3.0, 2.0).log_prob(x["scale"])
            + dist.Dirichlet(jnp.ones(3) * 2).log_prob(x["weights"])
            + dist.Normal(0, 1).log_prob(x["rest"][0]).sum()
            + dist.Beta(2.0, 3.0).log_prob(x["rest"][1])
        )

    target = pf.Target(log_density, example, support)
    assert target.dim == 1 + 2 + 4 + 1
    u = jr.normal(jr.key(0), (target.dim,))
    draw = target.constrain(u)
    assert draw["scale"] > 0
    assert draw["weights"].sum() == pytest.approx(1.0)
    np.testing.assert_allclose(target.unconstrain(draw), u, atol=1e-10)
    # The volume element, where the constrained space is a real interval, against the automatic derivative.
    scale_only = pf.Target(lambda x: jnp.zeros(()), jnp.array(1.0), constraints.positive)
    at = jnp.array([0.3])
    slope = jax.grad(lambda u: scale_only.constrain(u))(at)[0]
    assert scale_only.log_volume(at) == pytest.approx(float(jnp.log(slope)))


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


def test_example_outside_of_its_support_tells_the_shape():
    target = pf.Target(lambda x: -x, jnp.zeros(()), constraints.positive)
    assert jnp.isfinite(target.start).all()
