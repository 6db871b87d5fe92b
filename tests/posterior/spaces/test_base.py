"""Supports of pytrees."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import pushforward as pf


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
