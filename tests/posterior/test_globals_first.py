"""The same Gaussian in coordinates of order one, with global coordinates first."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csr_array

import pushforward as pf
from pushforward.bijections import Arrow, Triangular
from pushforward.posterior.globals_first import globals_first
from pushforward.posterior.structure import structure_of

DIM, GLOBALS = 60, [41, 7]


def hierarchical_precision():
    """Two coordinates that interact with all, and a chain of the others."""
    precision = 3 * np.eye(DIM) - np.eye(DIM, k=1) - np.eye(DIM, k=-1)
    precision[GLOBALS] = precision[:, GLOBALS] = 0.2
    precision[GLOBALS, GLOBALS] = 9.0
    return precision


@pytest.mark.parametrize("sparse", [True, False])
def test_the_gaussian_is_the_same(sparse):
    precision = hierarchical_precision()
    scales, loc = np.logspace(-2, 3, DIM), np.arange(float(DIM))
    covariance = np.linalg.inv(precision) * scales[:, None] * scales
    affine = Triangular(DIM, loc, np.linalg.cholesky(covariance))
    target = pf.Target(lambda x: -jnp.sum(x**2), jnp.zeros(DIM))
    structure = structure_of(csr_array(precision != 0), [f"x[{i}]" for i in range(DIM)]) if sparse else None
    rest = [i for i in range(DIM) if i not in GLOBALS]
    whitened, factor = globals_first(target, affine, np.array(GLOBALS + rest), 2, structure)
    assert isinstance(factor, Arrow if sparse else Triangular)
    place = np.asarray(whitened.affine.forward(factor.forward(jnp.zeros(DIM))))
    np.testing.assert_allclose(place, loc, atol=1e-12)
    matrix = np.stack([whitened.affine.forward(factor.forward(row)) for row in jnp.eye(DIM)], 1) - place[:, None]
    np.testing.assert_allclose(matrix @ matrix.T, covariance, rtol=1e-8, atol=1e-12)
    # Coordinates of order one, of which the first two are the global ones.
    moved = whitened.affine.forward(jnp.zeros(DIM).at[0].set(1.0)) - loc
    assert np.flatnonzero(np.abs(moved) > 1e-12).tolist() == [41]
    assert float(moved[41]) == pytest.approx(np.sqrt(covariance[41, 41]))


def test_a_structure_that_is_not_sparse_with_these_globals_gives_a_full_matrix():
    """Half of the coordinates are global."""
    precision = hierarchical_precision()
    target = pf.Target(lambda x: -jnp.sum(x**2), jnp.zeros(DIM))
    structure = structure_of(csr_array(precision != 0), ["x"] * DIM)
    affine = Triangular(DIM, matrix=np.linalg.cholesky(np.linalg.inv(precision)))
    assert isinstance(globals_first(target, affine, np.arange(DIM), 40, structure)[1], Triangular)
