"""Linear bijections against their matrices, written out."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from products import few, first
from pushforward.bijections import PLU, QR, Orthogonal, Permutation, Triangular
from pushforward.testing import randomize

KEY = jr.key(0)


def make(name, dim):
    return {
        "PLU": lambda: PLU(dim, key=KEY),
        "QR": lambda: QR(dim, key=KEY),
        "Orthogonal": lambda: Orthogonal(dim, key=KEY),
        "few reflections": lambda: Orthogonal(dim, max(1, dim // 2), key=KEY),
        "Triangular": lambda: Triangular(dim),
    }[name]()


NAMES = ["PLU", "QR", "Orthogonal", "few reflections", "Triangular"]


@pytest.mark.parametrize(
    ("name", "dim"),
    [("PLU", 1), ("QR", 2), *first(("few reflections", 5), ("PLU", 17), ("QR", 17), ("Orthogonal", 1))],
)
def test_conformance(name, dim):
    pf.testing.check_bijection(make(name, dim), key=KEY)


@pytest.mark.parametrize("name", few(["PLU", "QR"], "QR"))
def test_conformance_float32(name):
    with jax.enable_x64(False):
        pf.testing.check_bijection(make(name, 5), key=KEY)


@pytest.mark.parametrize("name", NAMES)
def test_batch_last(name):
    b = randomize(make(name, 5), KEY, 1.0)
    u, score = jr.normal(KEY, (2, 5, 7))
    for one, batch, arrays in (
        (b.forward_and_log_det, b.forward_batch, (u,)),
        (b.inverse_and_log_det, b.inverse_batch, (u,)),
        (b.push_score, b.push_score_batch, (u, score)),
    ):
        expected = jax.vmap(one, in_axes=-1, out_axes=-1)(*arrays)
        for got, want in zip(batch(*arrays), expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_plu_is_the_product_of_its_factors():
    b = randomize(PLU(5, key=KEY), KEY, 1.0)
    raw = np.asarray(b.factors)
    p = np.eye(5)[np.asarray(b.permutation.order)]
    lower = np.tril(raw, -1) + np.eye(5)
    upper = np.triu(raw, 1) + np.diag((np.diag(raw) + np.sqrt(np.diag(raw) ** 2 + 4)) / 2)
    u = np.arange(5.0)
    x, log_det = b.forward_and_log_det(jnp.asarray(u))
    np.testing.assert_allclose(x, p @ lower @ upper @ u + b.loc, atol=1e-12)
    np.testing.assert_allclose(b.matrix, p @ lower @ upper, atol=1e-12)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(p @ lower @ upper)[1], atol=1e-12)


@pytest.mark.parametrize(("dim", "m"), [(5, 2), *first((70, 40), (1, 1), (5, 5), (17, 16), (70, 70))])
def test_rotation_is_the_product_of_reflections(dim, m):
    b = randomize(Orthogonal(dim, m, key=KEY), KEY, 3.0)
    product, signs = np.eye(dim), np.ones(dim)
    for k in range(m):
        v = np.zeros(dim)
        v[k], v[k + 1 :] = 1, b.reflectors[k + 1 :, k]
        product, signs[k] = product @ (np.eye(dim) - 2 * np.outer(v, v) / (v @ v)), -1
    np.testing.assert_allclose(b.matrix, product * signs, atol=1e-13)
    np.testing.assert_allclose(b.matrix.T @ b.matrix, np.eye(dim), atol=1e-13)
    np.testing.assert_allclose(b.inverse(b.matrix[:, :3].sum(1)), np.arange(dim) < 3, atol=1e-13)
    np.testing.assert_allclose(np.linalg.det(b.matrix), 1, atol=1e-12)


@pytest.mark.parametrize("raw", [0.0, 1e3, 1e8])
def test_rotation_is_orthogonal_for_any_arrays(raw):
    """Including parallel, zero and huge reflectors."""
    matrix = pf.bijections.linear.rotate(jnp.full((9, 9), raw), jnp.eye(9))
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(9), atol=1e-13)


def test_qr_matrix():
    b = randomize(QR(5, key=KEY), KEY, 1.0)
    jacobian = jax.jacfwd(b.forward)(jnp.zeros(5))
    np.testing.assert_allclose(b.matrix, jacobian, atol=1e-12)
    assert np.linalg.det(b.matrix) > 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PLU(4), "needs a key"),
        (lambda: PLU(4, order=[0, 1, 2]), "dim=4.*has 3"),
        (lambda: PLU(3, order=[0, 1, 1]), r"\[0, 1, 1\]"),
        (lambda: Orthogonal(4, 5, key=KEY), "num_reflections=5, dim=4"),
        (lambda: Orthogonal(4, 0, key=KEY), "num_reflections=0"),
        (lambda: Permutation([1, 2, 3]), r"\[1, 2, 3\]"),
    ],
)
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
