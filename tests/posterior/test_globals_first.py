"""The same Gaussian in coordinates of order one, with global coordinates first."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csr_array

import pushforward as pf
from pushforward.bijections import Arrow, Banded, Triangular
from pushforward.posterior.globals_first import globals_first
from pushforward.posterior.search.sparse_gaussian import ArrowMatrix, SparseGaussian, SparseMap
from pushforward.posterior.structure import structure_of

DIM, GLOBALS = 60, [41, 7]


def hierarchical_precision():
    """Two coordinates that interact with all, and a chain of the others."""
    precision = 3 * np.eye(DIM) - np.eye(DIM, k=1) - np.eye(DIM, k=-1)
    precision[GLOBALS] = precision[:, GLOBALS] = 0.2
    precision[GLOBALS, GLOBALS] = 9.0
    return precision


def sparse_gaussian(precision, scales):
    """Its structure is found without knowledge of the globals."""
    pattern = csr_array(precision != 0)
    structure = structure_of(pattern, ["x"] * DIM)
    num, order = structure.num_hubs, structure.order
    ordered = (precision / scales[:, None] / scales)[np.ix_(order, order)]
    bands = [np.pad(np.diagonal(ordered[num:, num:], -j), (0, j)) for j in range(structure.bandwidth + 1)]
    gaussian = SparseGaussian(
        np.arange(float(DIM))[order], ArrowMatrix(ordered[:num, :num], ordered[:num, num:], np.stack(bands))
    )
    return SparseMap(gaussian, scales[order], order, np.stack(pattern.nonzero()), 0.0)


@pytest.mark.parametrize("precision", ["float32", "float64"], indirect=True)
@pytest.mark.parametrize("is_sparse", [True, False])
def test_the_gaussian_is_the_same(is_sparse, precision):
    matrix = hierarchical_precision()
    scales, loc = np.logspace(-2, 3, DIM), np.arange(float(DIM))
    correlated = np.linalg.inv(matrix)
    sparse = sparse_gaussian(matrix, scales)
    affine = sparse.triangular()
    target = pf.Target(lambda x: -jnp.sum(x**2), jnp.zeros(DIM))
    rest = [i for i in range(DIM) if i not in GLOBALS]
    whitened, factor = globals_first(target, affine, np.array(GLOBALS + rest), 2, sparse if is_sparse else None)
    assert isinstance(factor, Arrow if is_sparse else Triangular)
    tolerance = 1e-9 if precision == "float64" else 1e-5
    order = np.asarray(whitened.affine.bijections[1].inverse(jnp.arange(DIM) * 1.0)).astype(int)
    assert order[:2].tolist() == GLOBALS
    np.testing.assert_allclose(whitened.affine.forward(factor.forward(jnp.zeros(DIM))), loc, atol=tolerance)
    found = np.asarray(factor.forward_batch(jnp.eye(DIM))[0])
    sizes = np.sqrt(np.diag(correlated))
    expected = (correlated / sizes[:, None] / sizes)[np.ix_(order, order)]
    np.testing.assert_allclose(found @ found.T, expected, atol=tolerance)


def test_many_global_coordinates_give_a_full_matrix():
    """Two thirds of the coordinates."""
    sparse = sparse_gaussian(hierarchical_precision(), np.ones(DIM))
    target = pf.Target(lambda x: -jnp.sum(x**2), jnp.zeros(DIM))
    assert isinstance(globals_first(target, sparse.triangular(), np.arange(DIM), 40, sparse)[1], Triangular)


@pytest.mark.parametrize("precision", ["float32"], indirect=True)
def test_almost_singular_gaussians_keep_their_precision_in_float32(precision):
    """A random walk of second order."""
    second = np.diff(np.eye(DIM), 2, axis=0)
    matrix = second.T @ second + 1e-6 * np.eye(DIM)
    scales = np.sqrt(np.diag(np.linalg.inv(matrix)))
    sparse = sparse_gaussian(matrix * scales[:, None] * scales, scales)
    target = pf.Target(lambda x: -jnp.sum(x**2), jnp.zeros(DIM))
    whitened, factor = globals_first(target, sparse.triangular(), np.arange(DIM), 0, sparse)
    assert isinstance(factor, Banded)
    order = np.asarray(whitened.affine.bijections[1].inverse(jnp.arange(DIM) * 1.0)).astype(int)
    root = np.asarray(factor.inverse_batch(jnp.eye(DIM))[0], float)
    expected = (matrix * scales[:, None] * scales)[np.ix_(order, order)]
    np.testing.assert_allclose(root.T @ root / expected.max(), expected / expected.max(), atol=1e-5)
