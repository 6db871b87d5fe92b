"""Flows put together: the same distribution, or the composition written out."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from pushforward.bijections import Affine, Elementwise, Triangular
from pushforward.flow import Flow
from pushforward.flows.default import default_flow
from pushforward.flows.stack import standard_normal
from pushforward.posterior.composed import composed, composed_affine, student_t, unwhitened
from pushforward.testing import randomize


def test_couplings_after_a_flow_change_nothing_at_first():
    first = Flow(standard_normal(4), randomize(Triangular(4), jr.key(0), 1.0))
    both = composed(first, default_flow(4, key=jr.key(1)))
    x = first.sample(jr.key(2), (5,))
    np.testing.assert_allclose(both.log_prob(x), first.log_prob(x), rtol=1e-9)


def diagonal(dim):
    return Elementwise(Affine(), dim)


@pytest.mark.parametrize("kinds", [(Triangular, Triangular), (diagonal, diagonal), (diagonal, Triangular)])
def test_affine_maps_become_one(kinds):
    outer, inner = (randomize(make(3), jr.key(i), 1.0) for i, make in enumerate(kinds))
    u = jnp.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(composed_affine(outer, inner).forward(u), outer.forward(inner.forward(u)), rtol=1e-9)
    flow = unwhitened(outer, Flow(standard_normal(3), inner))
    np.testing.assert_allclose(flow.bijection.forward(u), outer.forward(inner.forward(u)), rtol=1e-9)


def test_the_base_with_learned_tails():
    flow = Flow(student_t(2), Triangular(2))
    assert flow.shape == (2,)
    assert pf.bijections.num_parameters(flow.base) == 6
