"""The default flows for posteriors: they start as the base, and hierarchical flows keep global coordinates apart."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.linalg

from pushforward.bijections import Concatenate, Coupling, Orthogonal, Rotation, Triangular
from pushforward.bijections.arrays import num_parameters
from pushforward.flows.default import default_flow, hierarchical_flow, without_permutation
from pushforward.testing import check_bijection, randomize

FACTOR = np.linalg.cholesky(np.array([[1.0, 0.6, 0.2, 0], [0.6, 1, 0, 0.3], [0.2, 0, 1, 0], [0, 0.3, 0, 1]]))


NEIGHBORS = (True, False, False, True), np.array([[1], [0]]), np.array([[0], [1]])


@pytest.mark.parametrize("neighbors", [None, NEIGHBORS], ids=["without neighbors", "neighbors"])
@pytest.mark.parametrize("num_global", [0, 1, 2])
def test_a_hierarchical_flow_starts_as_the_gaussian(num_global, neighbors):
    flow = hierarchical_flow(Triangular(4, matrix=FACTOR), num_global, neighbors, key=jr.key(0))
    u = jr.normal(jr.key(1), (5, 4))
    np.testing.assert_allclose(flow.bijection.batched.forward(u), u @ FACTOR.T, atol=1e-12)


def test_a_rotation_of_local_noise_keeps_the_gaussian_and_is_not_trained():
    rotation = Rotation(Orthogonal(3, key=jr.key(2)).matrix)
    bijection = hierarchical_flow(Triangular(4, matrix=FACTOR), 1, rotation=rotation, key=jr.key(0)).bijection
    check_bijection(bijection, key=jr.key(3), scales=(0.0, 0.3))
    jacobian = jax.jacobian(bijection.forward)(jnp.zeros(4))
    np.testing.assert_allclose(jacobian, FACTOR @ scipy.linalg.block_diag(1, rotation.matrix), atol=1e-12)
    turn = next(part for part in bijection.bijections if isinstance(part, Concatenate) and num_parameters(part) == 0)
    assert isinstance(turn.bijections[1], Rotation)


@pytest.mark.parametrize("num_global", [1, 2])
def test_global_coordinates_do_not_depend_on_local_ones(num_global):
    bijection = hierarchical_flow(Triangular(4, matrix=FACTOR), num_global, key=jr.key(0)).bijection
    check_bijection(bijection, key=jr.key(3), scales=(0.0, 0.3))
    jacobian = jax.jacobian(randomize(bijection, jr.key(2), 0.3).forward)(jnp.array([0.3, -1.0, 0.5, 2.0]))
    assert np.all(jacobian[:num_global, num_global:] == 0) and np.all(jacobian[num_global:, :num_global] != 0)


def test_coordinates_depend_on_their_neighbors_in_the_other_group():
    """Coordinate 1 on 3, 3 on 2, 2 on 0 and 0 on 1."""
    bijection = hierarchical_flow(Triangular(4), 0, NEIGHBORS, key=jr.key(0)).bijection
    check_bijection(bijection, key=jr.key(3), scales=(0.0, 0.3))
    couplings = [part for part in randomize(bijection, jr.key(2), 0.3).bijections if isinstance(part, Coupling)]
    jacobians = [np.abs(jax.jacobian(part.forward)(jnp.array([0.3, -1.0, 0.5, 2.0]))) > 0 for part in couplings]
    first, second = (np.eye(4, dtype=bool) for _ in range(2))
    first[[0, 3], [1, 2]] = second[[1, 2], [3, 0]] = True
    np.testing.assert_array_equal(jacobians, [first, second, second, first])


def test_without_permutation():
    bijection = without_permutation(default_flow(5, key=jr.key(0)).bijection)
    u = jnp.arange(5.0)
    np.testing.assert_allclose(bijection.forward(u), u, atol=1e-12)
