"""Sparse Gaussians against dense ones."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.linalg import LinAlgError

import pushforward as pf
from pushforward.posterior.search.sparse_gaussian import (
    ArrowMatrix,
    SparseGaussian,
    SparseMap,
    fit_sparse_gaussian,
    sparse_map,
)
from pushforward.posterior.structure import Structure
from pushforward.serialization.file import from_bytes, to_bytes

DIM = 520


def dense(matrix):
    """An arrow as a full matrix."""
    head, cross, bands = matrix.head, matrix.cross, matrix.bands
    rest = bands.shape[1]
    tail = sum(np.diag(band[: rest - j], -j) for j, band in enumerate(bands))
    return np.block([[head, cross], [cross.T, tail + np.tril(tail, -1).T]])


def arrow(num, rest, bandwidth):
    rng = np.random.default_rng(0)
    bands = 0.2 * rng.normal(size=(bandwidth + 1, rest))
    bands[0] = 3
    for j in range(1, bandwidth + 1):
        bands[j, rest - j :] = 0
    return ArrowMatrix(4 * np.eye(num), 0.2 * rng.normal(size=(num, rest)), bands)


@pytest.mark.parametrize("shape", [(2, 6, 2), (0, 5, 1), (1, 4, 0)])
def test_maps_and_moves_against_dense_matrices(shape):
    precision = arrow(*shape)
    dim = shape[0] + shape[1]
    gaussian = SparseGaussian(np.arange(float(dim)), precision)
    affine = gaussian.affine()
    matrix = np.asarray(affine.forward_batch(jnp.eye(dim))[0]) - gaussian.loc[:, None]
    np.testing.assert_allclose(matrix @ matrix.T, np.linalg.inv(dense(precision)), rtol=1e-9, atol=1e-12)
    gradient = np.random.default_rng(1).normal(size=dim)
    moved = gaussian.moved(gradient, 0.5).loc - gaussian.loc
    np.testing.assert_allclose(moved, 0.5 * np.linalg.solve(dense(precision), gradient), rtol=1e-9)
    scales = np.linspace(0.1, 10, dim)
    scaled = np.asarray(gaussian.scaled(scales).affine().forward_batch(jnp.eye(dim))[0])
    np.testing.assert_allclose(scaled @ scaled.T * scales[:, None] * scales, matrix @ matrix.T, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "float64"], indirect=True)
@pytest.mark.parametrize("shape", [(2, 6, 2), (0, 5, 1)])
def test_a_sparse_map_as_a_full_one(shape, precision):
    """In other units and another order, far from 0."""
    matrix, dim = arrow(*shape), shape[0] + shape[1]
    rng = np.random.default_rng(2)
    order, scales, loc = rng.permutation(dim), np.logspace(-2, 2, dim), np.full(dim, 1e4)
    gaussian = SparseGaussian(loc, matrix)
    found = SparseMap(gaussian, scales, order, np.zeros((2, 0), int), 0.0)
    back, tolerance = np.argsort(order), 1e-9 if precision == "float64" else 1e-4
    covariance = np.linalg.inv(dense(matrix))[np.ix_(back, back)]
    full = found.triangular()
    np.testing.assert_allclose(full.matrix @ full.matrix.T, covariance, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(full.loc, 1e4, rtol=tolerance)
    others = np.linspace(1, 3, dim)
    expected = dense(matrix)[np.ix_(back, back)] * others[:, None] * others
    np.testing.assert_allclose(found.precision(others), expected, rtol=1e-12, atol=1e-12)
    assert found.is_usable
    assert not found._replace(scales=np.zeros(dim)).is_usable
    # Other processes get it.
    again = from_bytes(to_bytes(found))
    np.testing.assert_array_equal(again.precision(others), found.precision(others))


@pytest.mark.parametrize("shape", [(2, 6, 2), (0, 5, 1)])
def test_a_sparse_map_has_the_precision_of_a_matrix(shape):
    precision = dense(arrow(*shape))
    structure = Structure((), None, np.arange(len(precision)), shape[0], shape[2])
    matrix = np.asarray(sparse_map(precision, structure).forward_batch(jnp.eye(len(precision)))[0])
    np.testing.assert_allclose(matrix @ matrix.T, np.linalg.inv(precision), rtol=1e-9, atol=1e-12)


def test_indefinite_precisions_are_refused():
    with pytest.raises(LinAlgError):
        SparseGaussian(np.zeros(3), ArrowMatrix(np.zeros((0, 0)), np.zeros((0, 3)), -np.ones((1, 3)))).affine()


def walk(x):
    """A Gaussian autoregressive process with two unknown parameters of Gaussian posteriors."""
    level, slope, x = x[0], x[1], x[2:]
    mean = level + slope * jnp.linspace(-1, 1, DIM - 2)
    steps = (x - mean)[1:] - 0.8 * (x - mean)[:-1]
    return -0.5 * (level**2 + slope**2) - 0.5 * jnp.sum(steps**2) / 0.36 - 0.5 * (x[0] - mean[0]) ** 2


def test_a_gaussian_process_is_found_exactly():
    target = pf.Target(walk, jnp.ones(DIM))
    found = fit_sparse_gaussian(target, jr.key(0))
    assert found is not None and found.num_hubs == 2
    log_evidence = 0.5 * DIM * np.log(2 * np.pi) + (DIM - 3) * np.log(0.6)
    np.testing.assert_allclose(found.elbo, log_evidence, atol=1e-6)
    u = jr.normal(jr.key(1), (3, DIM))
    inner, log_det1 = found.inner.batched.forward_and_log_det(u)
    x, log_det2 = found.scaling.batched.forward_and_log_det(inner)
    log_q = -0.5 * jnp.sum(u**2, 1) - 0.5 * DIM * np.log(2 * np.pi) - log_det1 - log_det2
    np.testing.assert_allclose(jnp.stack([walk(row) for row in x]) - log_q, log_evidence, atol=1e-6)


def test_few_dimensions_and_dense_targets_have_none():
    assert fit_sparse_gaussian(pf.Target(lambda x: -jnp.sum(x**2), jnp.zeros(5)), jr.key(0)) is None
    assert (
        fit_sparse_gaussian(pf.Target(lambda x: -(jnp.sum(x) ** 2) - jnp.sum(x**2), jnp.zeros(DIM)), jr.key(0)) is None
    )


def test_interactions_that_begin_where_the_mass_is():
    """Around the start neighbors are independent; the fit finds that they are not where the mass is."""

    def log_density(x):
        above = jnp.maximum(x - 3, 0) ** 2
        return -0.5 * jnp.sum((x - 5) ** 2) - 0.01 * jnp.sum(above[1:] * above[:-1])

    target = pf.Target(log_density, -3 * jnp.ones(DIM))
    assert target.structure.bandwidth == 0
    found = fit_sparse_gaussian(target, jr.key(0))
    assert found is not None and found.inner.below.shape == (1, DIM)
