"""Fixed rotations."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from pushforward.bijections import Orthogonal, Rotation
from pushforward.bijections.arrays import num_parameters

KEY = jr.key(0)


@pytest.mark.parametrize("dim", [1, 4])
@pytest.mark.parametrize("precision", ["float32", "float64"], indirect=True)
def test_conformance(dim, precision):
    pf.testing.check_bijection(Rotation(Orthogonal(dim, key=KEY).matrix), key=KEY)


def test_it_multiplies_and_has_no_parameters():
    matrix = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    rotation = Rotation(matrix)
    u, score = jr.normal(KEY, (2, 5, 7))
    np.testing.assert_allclose(rotation.forward_batch(u)[0], matrix @ u, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(rotation.inverse_batch(matrix @ u)[0], u, rtol=1e-12, atol=1e-12)
    x, log_det, pushed = rotation.push_score_batch(u, score)
    np.testing.assert_allclose(pushed, matrix @ score, rtol=1e-12, atol=1e-12)
    assert num_parameters(rotation) == 0 and not np.any(log_det)
    gradient = jax.grad(lambda matrix: Rotation(matrix).forward(u[:, 0]).sum())(jnp.asarray(matrix))
    assert not np.any(gradient)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (jnp.ones((2, 3)), r"square, but has shape \(2, 3\)"),
        (jnp.ones(2), r"square, but has shape \(2,\)"),
        (jnp.array([[1.0, 0], [0, 2]]), "must be orthogonal, .* differs from I by 3"),
        (jnp.full((2, 2), jnp.nan), "must be orthogonal"),
    ],
)
def test_errors(matrix, message):
    with pytest.raises(ValueError, match=message):
        Rotation(matrix)
