"""In rotated coordinates, global coordinates change the scales of local ones only."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward.bijections import Triangular
from pushforward.posterior.search import rotation
from pushforward.posterior.search.rotation import find_rotation, joint_axes

RANDOM = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]


def scaled(x, axes, num_global=1):
    """Global coordinates are N(0, 1); the scales of the others along some axes depend on them."""
    z, w = x[:num_global], axes.T @ x[num_global:]
    slopes = jnp.asarray(np.random.default_rng(1).normal(size=(w.size, num_global)), x.dtype)
    log_scales = 0.4 * jnp.sin(slopes @ z)
    return -0.5 * jnp.sum(z**2) - 0.5 * jnp.sum((w * jnp.exp(-log_scales)) ** 2) - jnp.sum(log_scales)


def is_diagonal(matrix, tolerance):
    return np.abs(matrix - np.diag(np.diag(matrix))).max() < tolerance * np.abs(matrix).max()


@pytest.mark.parametrize("precision", ["float32", "float64"], indirect=True)
@pytest.mark.parametrize("num_global", [1, 3])
def test_axes_along_which_only_scales_change(precision, num_global):
    affine = Triangular(12 + num_global)
    assert affine.loc.dtype == precision
    found = find_rotation(lambda x: scaled(x, jnp.asarray(RANDOM), num_global), affine, num_global, jr.key(0))
    # Each axis is one of those along which scales change.
    assert np.sort(np.abs(RANDOM.T @ np.asarray(found.matrix)), axis=0)[-1].min() > 0.98


def test_the_precision_of_a_random_walk_with_an_unknown_scale_of_innovations():
    r"""$R e^{-2 z} + I$: all precisions have the same eigenvectors."""
    differences = np.eye(20) - np.eye(20, k=-1)

    def walk(x):
        z, states = x[0], x[1:]
        log_scale = 0.3 * z - 1
        steps = jnp.asarray(differences) @ states * jnp.exp(-log_scale)
        return -0.5 * (z**2 + jnp.sum(steps**2) + jnp.sum(states**2)) - 20 * log_scale

    def precision(z):
        return -jax.hessian(walk)(jnp.zeros(21).at[0].set(z))[1:, 1:]

    upper = np.linalg.cholesky(np.asarray(precision(0.0))[::-1, ::-1])[::-1, ::-1]
    matrix = np.eye(21)
    matrix[1:, 1:] = np.linalg.inv(upper).T
    turn = np.asarray(find_rotation(walk, Triangular(21, matrix=matrix), 1, jr.key(0)).matrix)
    whitening = matrix[1:, 1:] @ turn
    for z in (-2.0, 2.0):
        assert is_diagonal(whitening.T @ np.asarray(precision(z)) @ whitening, 1e-6)
        assert not is_diagonal(matrix[1:, 1:].T @ np.asarray(precision(z)) @ matrix[1:, 1:], 0.02)


def test_none_where_it_gains_nothing(monkeypatch):
    affine = Triangular(13)
    key = jr.key(0)
    assert find_rotation(lambda x: -jnp.sum(x**2), affine, 1, key) is None
    # The scales of the coordinates themselves change.
    assert find_rotation(lambda x: scaled(x, np.eye(12)), affine, 1, key) is None
    assert find_rotation(lambda x: scaled(x, RANDOM), affine, 0, key) is None
    monkeypatch.setattr(rotation, "MAX_DIM", 12)
    assert find_rotation(lambda x: scaled(x, RANDOM), affine, 1, key) is None


def test_noise_is_no_gain():
    """The scales of the coordinates themselves change, and the Hessian of others is noisy, with a mean of zero."""
    third = np.random.default_rng(0).normal(size=(5, 30, 30, 30))

    def noisy(x, terms):
        return scaled(x, np.eye(30)) + 0.02 * jnp.einsum("ijk,i,j,k->", terms, x[1:], x[1:], x[0] * jnp.sin(3 * x[1:]))

    for terms in third:
        assert find_rotation(functools.partial(noisy, terms=terms), Triangular(31), 1, jr.key(0)) is None


def test_coordinates_are_those_of_the_gaussian():
    matrix = np.tril(np.random.default_rng(2).normal(size=(13, 13))) + 4 * np.eye(13)
    affine = Triangular(13, matrix=matrix)
    found = find_rotation(lambda x: scaled(affine.inverse(x), RANDOM), affine, 1, jr.key(0))
    plain = find_rotation(lambda x: scaled(x, RANDOM), Triangular(13), 1, jr.key(0))
    np.testing.assert_allclose(found.matrix, plain.matrix, atol=1e-6)


def test_points_without_a_finite_density_and_huge_changes_do_not_decide():
    def broken(x):
        return jnp.where(x[1] > 1.5, jnp.nan, scaled(x, RANDOM)) - jnp.where(x[2] > 1, 1e9 * x[0] * x[1] * x[2], 0)

    found = find_rotation(broken, Triangular(13), 1, jr.key(0))
    assert np.sort(np.abs(RANDOM.T @ np.asarray(found.matrix)), axis=0)[-1].mean() > 0.75
    assert find_rotation(lambda x: jnp.sum(x) * jnp.nan, Triangular(13), 1, jr.key(0)) is None


@pytest.mark.parametrize("dim", [1, 2, 7, 30])
def test_joint_eigenvectors(dim):
    rng = np.random.default_rng(dim)
    axes = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    matrices = axes @ (rng.normal(size=(4, dim, 1)) * np.eye(dim)) @ axes.T
    found = joint_axes(matrices)
    np.testing.assert_allclose(found.T @ found, np.eye(dim), atol=1e-12)
    for matrix in found.T @ matrices @ found:
        np.testing.assert_allclose(matrix, np.diag(np.diag(matrix)), atol=1e-6)


def test_noise_leaves_joint_eigenvectors_about_as_good():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    noise = 0.02 * rng.normal(size=(5, 40, 40))
    matrices = axes @ (rng.normal(size=(5, 40, 1)) * np.eye(40)) @ axes.T + noise + noise.swapaxes(1, 2)

    def squares_off(axes):
        turned = axes.T @ matrices @ axes
        return np.sum(turned**2) - np.einsum("kii,kii->", turned, turned)

    assert squares_off(joint_axes(matrices)) <= squares_off(axes) < 0.1 * squares_off(np.eye(40))
