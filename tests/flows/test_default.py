"""The default flows for posteriors: they start as the base, and hierarchical flows keep global coordinates apart."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward.bijections import Triangular
from pushforward.flows.default import default_flow, hierarchical_flow, without_permutation
from pushforward.testing import check_bijection, randomize

FACTOR = np.linalg.cholesky(np.array([[1.0, 0.6, 0.2, 0], [0.6, 1, 0, 0.3], [0.2, 0, 1, 0], [0, 0.3, 0, 1]]))


@pytest.mark.parametrize("num_global", [0, 1, 2])
def test_a_hierarchical_flow_starts_as_the_gaussian(num_global):
    flow = hierarchical_flow(Triangular(4, matrix=FACTOR), num_global, key=jr.key(0))
    u = jr.normal(jr.key(1), (5, 4))
    np.testing.assert_allclose(flow.bijection.batched.forward(u), u @ FACTOR.T, atol=1e-12)


@pytest.mark.parametrize("num_global", [1, 2])
def test_global_coordinates_do_not_depend_on_local_ones(num_global):
    bijection = hierarchical_flow(Triangular(4, matrix=FACTOR), num_global, key=jr.key(0)).bijection
    check_bijection(bijection, key=jr.key(3), scales=(0.0, 0.3))
    jacobian = jax.jacobian(randomize(bijection, jr.key(2), 0.3).forward)(jnp.array([0.3, -1.0, 0.5, 2.0]))
    assert np.all(jacobian[:num_global, num_global:] == 0) and np.all(jacobian[num_global:, :num_global] != 0)


def test_without_permutation():
    bijection = without_permutation(default_flow(5, key=jr.key(0)).bijection)
    u = jnp.arange(5.0)
    np.testing.assert_allclose(bijection.forward(u), u, atol=1e-12)
