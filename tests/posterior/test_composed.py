"""Flows put together: the same distribution, or the composition written out."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from pushforward.bijections import Affine, Elementwise, Triangular
from pushforward.flow import Flow
from pushforward.flows.default import default_flow
from pushforward.flows.stack import standard_normal
from pushforward.posterior.composed import (
    composed,
    composed_affine,
    marginals_in_axes_of,
    student_t,
    unwhitened,
)
from pushforward.testing import check_bijection, randomize


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


def test_marginals_act_on_the_coordinates_that_an_affine_map_leads_to():
    dim = 5
    factor = np.tril(np.random.default_rng(0).normal(size=(dim, dim))) + 3 * np.eye(dim)
    affine = Triangular(dim, np.arange(5.0), factor)
    marginals = marginals_in_axes_of(affine)
    u = jr.normal(jr.key(0), (20, dim))
    np.testing.assert_allclose(jax.vmap(marginals.forward)(u), u, atol=1e-12)
    check_bijection(marginals, key=jr.key(1))
    # The spline of one coordinate changes that coordinate alone.
    slopes = marginals.bijections[1].scalars.raw_slopes
    changed = eqx.tree_at(lambda m: m.bijections[1].scalars.raw_slopes, marginals, slopes.at[:, 2].set(2.0))
    before, after = jax.vmap(affine.forward)(u), jax.vmap(lambda u: affine.forward(changed.forward(u)))(u)
    np.testing.assert_allclose(np.delete(after, 2, 1), np.delete(before, 2, 1), atol=1e-12)
    assert np.abs(after[:, 2] - before[:, 2]).min() > 0.001
