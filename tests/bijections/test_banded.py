"""Banded and arrow-shaped affine maps against dense matrices, written out."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from pushforward.bijections import Arrow, Banded, Triangular
from pushforward.bijections.positive import positive
from pushforward.testing import randomize

KEY = jr.key(0)


def make(dim, bandwidth, num_first=0):
    """One of the maps; with `num_first` coordinates in the head of an arrow."""
    rest = dim - num_first
    bands = jnp.concatenate([jnp.ones((1, rest)), jnp.zeros((bandwidth, rest))])
    tail = Banded(rest, bands=bands)
    return randomize(Arrow(Triangular(num_first), tail) if num_first else tail, KEY, 1.0)


def dense(b):
    """The matrix and the location, from the definition."""
    if isinstance(b, Arrow):
        tail, loc = dense(b.tail)
        first = np.concatenate([np.asarray(b.head.matrix), np.zeros((b.head.dim, len(loc)))], 1)
        return np.concatenate([first, np.concatenate([np.asarray(b.cross), tail], 1)]), np.r_[b.head.loc, loc]
    factor = np.diag(positive(b.raw_diagonal))
    for j, band in enumerate(np.asarray(b.below), 1):
        factor += np.diag(band[: len(factor) - j], -j)
    return np.linalg.inv(factor).T, np.asarray(b.loc)


CASES = {"diagonal": (4, 0), "one band": (5, 1), "full": (4, 3), "arrow": (6, 2, 2), "diagonal arrow": (5, 0, 1)}


@pytest.mark.parametrize("name", CASES)
def test_against_dense_matrices(name):
    b = make(*CASES[name])
    matrix, loc = dense(b)
    u, score = jr.normal(KEY, (2, len(loc), 7))
    x, log_det = b.forward_batch(u)
    np.testing.assert_allclose(x, matrix @ u + loc[:, None], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(matrix)[1] * np.ones(7), rtol=1e-9)
    back, inverse_log_det = b.inverse_batch(x)
    np.testing.assert_allclose(back, u, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-9)
    pushed = b.push_score_batch(u, score)
    np.testing.assert_allclose(pushed[0], x)
    np.testing.assert_allclose(pushed[2], np.linalg.solve(matrix.T, score), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("x64", [True, False])
def test_conformance(x64):
    with jax.enable_x64(x64):
        pf.testing.check_bijection(make(5, 1, 2), key=KEY)


def test_zero_arrays_are_the_identity():
    b = Arrow(Triangular(2), Banded(3, bands=jnp.array([[1.0] * 3, [0.0] * 3])))
    u = jnp.arange(5.0)
    np.testing.assert_array_equal(b.forward(u), u)


def test_thousands_of_coordinates_take_little_memory():
    """A random walk of 20,000 steps; a matrix of it would take 3 GB."""
    dim = 20_000
    bands = jnp.stack([jnp.ones(dim), -jnp.ones(dim)])
    x, log_det = Banded(dim, bands=bands).forward_and_log_det(jnp.ones(dim))
    np.testing.assert_allclose(x, np.arange(dim, 0, -1))
    assert log_det == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Banded(3, bands=jnp.ones((4, 3))), r"bands \(1 to 3, 3\).*\(4, 3\)"),
        (lambda: Banded(3, bands=jnp.zeros((1, 3))), "must be positive"),
        (lambda: Banded(3, loc=jnp.array([0.0, jnp.nan, 0])), "finite"),
        (lambda: Arrow(Triangular(1), Banded(2), jnp.ones((1, 2))), r"shape \(2, 1\), but has \(1, 2\)"),
        (lambda: Arrow(Banded(1), Banded(2)), "head must be a Triangular"),
    ],
)
def test_bad_arguments(wrong, message):
    with pytest.raises((TypeError, ValueError), match=message):
        wrong()
