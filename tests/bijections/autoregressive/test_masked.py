"""Coordinates depend exactly on those that the ordering or the adjacency allows."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cases import random_adjacency, strictly_before
from pushforward import bijections as bj
from pushforward.testing import randomize


def test_autoregressive_jacobian_is_lower_triangular():
    bijection = bj.MaskedAutoregressive(bj.Affine(), 5, hidden=(32, 32), key=jr.key(0))
    jac = jax.jacfwd(randomize(bijection, jr.key(1), 1.0).forward)(jr.normal(jr.key(2), (5,)))
    np.testing.assert_array_equal(jac != 0, np.tril(np.ones((5, 5), bool)))


def test_every_output_sees_the_condition():
    bijection = bj.MaskedAutoregressive(bj.Affine(), 4, hidden=(32,), cond_dim=2, key=jr.key(0))
    bijection = randomize(bijection, jr.key(1), 1.0)
    jac = jax.jacfwd(bijection.forward, argnums=1)(jnp.ones(4), jnp.ones(2))
    assert np.all(jac != 0)


def test_narrow_layers_keep_the_ends_of_the_ordering():
    bijection = bj.MaskedAutoregressive(bj.Affine(), 9, hidden=(3, 4), cond_dim=2, key=jr.key(0))
    bijection = randomize(bijection, jr.key(1), 1.0)
    by_u, by_condition = jax.jacfwd(bijection.forward, argnums=(0, 1))(jr.normal(jr.key(2), (9,)), jnp.ones(2))
    assert np.all(by_condition != 0)
    assert np.all(by_u[-1] != 0)
    np.testing.assert_array_equal(by_u[1, :2] != 0, [False, True])


def dependence(bijection):
    """[i, j] is True where coordinate i of x depends on coordinate j of u."""
    moved = randomize(bijection, jr.key(1), 1.0)
    return np.asarray(jax.jacfwd(moved.forward)(jr.normal(jr.key(2), bijection.shape))) != 0


def test_ordering():
    ordering = [2, 0, 3, 1]
    sees = dependence(bj.MaskedAutoregressive(bj.Affine(), 4, hidden=(64,), ordering=ordering, key=jr.key(0)))
    np.testing.assert_array_equal(sees[np.ix_(ordering, ordering)], np.tril(np.ones((4, 4), bool)))


@pytest.mark.parametrize("seed", range(3))
def test_adjacency(seed):
    order = np.random.default_rng(seed).permutation(6)
    parents = (random_adjacency(seed, 6, 6) & strictly_before(6))[np.ix_(order, order)]
    bijection = bj.MaskedAutoregressive(bj.Affine(), 6, hidden=(256,), adjacency=parents, key=jr.key(0))
    np.testing.assert_array_equal(dependence(bijection), parents | np.eye(6, dtype=bool))


@pytest.mark.parametrize("given", [{"ordering": [2, 0, 3, 1]}, {"adjacency": np.eye(4, k=1, dtype=bool)}], ids=str)
def test_roots_are_found_in_the_order_of_dependence(given):
    bijection = bj.MaskedAutoregressive(bj.DeepSigmoidal(4), 4, hidden=(16,), key=jr.key(0), **given)
    bijection = randomize(bijection, jr.key(1), 1.0)
    x = jr.normal(jr.key(2), (4, 9))
    u, log_det = eqx.filter_jit(bijection.inverse_batch)(x)
    again, minus = bijection.forward_batch(u)
    np.testing.assert_allclose(again, x, atol=1e-12)
    np.testing.assert_allclose(minus, -log_det, atol=1e-12)
    jacobian = eqx.filter_jit(jax.jacrev(lambda x: bijection.inverse(x)))(x[:, 0])
    np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], log_det[0], atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ordering": [0, 1, 1]}, r"\[0, 1, 1\]"),
        ({"ordering": [0, 1]}, r"\[0, 1\]"),
        ({"adjacency": np.ones((2, 2), bool)}, r"3 x 3 booleans.*\(2, 2\)"),
        ({"adjacency": np.eye(3)}, "float64"),
        ({"adjacency": np.roll(np.eye(3, dtype=bool), 1, 0)}, r"cycle.*\[0, 1, 2\]"),
        ({"adjacency": np.eye(3, dtype=bool), "ordering": [0, 1, 2]}, "not both"),
        ({"adjacency": np.eye(3, k=1, dtype=bool), "hidden": (1,)}, r"hidden=\(1,\) is too narrow.*\[0\]"),
        ({"adjacency": np.tri(3, k=-1, dtype=bool), "hidden": (2,), "cond_dim": 1}, "too narrow"),
        ({"hidden": (8, 1), "cond_dim": 1}, r"hidden=\(8, 1\) is too narrow: .* 3 units per layer are enough"),
        ({"dim": 0}, "dim=0"),
        ({"cond_dim": 0}, "cond_dim=0"),
    ],
)
def test_masked_autoregressive_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        bj.MaskedAutoregressive(bj.Affine(), **{"dim": 3, "key": jr.key(0)} | arguments)
