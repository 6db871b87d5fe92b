"""Couplings of angles and other coordinates."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward import bijections as bj
from pushforward.bijections.autoregressive.coupling import with_float32_networks
from pushforward.bijections.autoregressive.networks import LocalMLPs, SkipMLP
from pushforward.testing import check_bijection, randomize

MASKS = [True, True, False, False], [False, False, True, True]


def test_coupling_sees_angles_by_cosine_and_sine():
    angles = [True, False, True, False]
    coupling = bj.Coupling(bj.Affine(), 4, hidden=(8,), angles=angles, key=jr.key(0))
    check_bijection(coupling, key=jr.key(0), scales=(1.0,))
    far = randomize(coupling, jr.key(1), 1.0)
    u = jnp.array([0.3, -1.0, 2.0, 0.7])
    turn = jnp.array([2 * math.pi, 0, 0, 0])
    np.testing.assert_allclose(far.forward(u + turn), far.forward(u) + turn, rtol=1e-12)
    with pytest.raises(ValueError, match="angles must hold 4 booleans"):
        bj.Coupling(bj.Affine(), 4, angles=[True], key=jr.key(0))


def test_a_conditioner_of_other_sizes_is_an_error():
    with pytest.raises(ValueError, match=r"map arrays \(2, 2\) to \(4, 2\), but its result has shape \(3, 2\)"):
        bj.Coupling(bj.Affine(), 4, conditioner=lambda i, o, key: bj.MLP(i, o - 1, (4,), key=key), key=jr.key(0))


@pytest.mark.parametrize("kind", ["MLP", "skip", "local"])
def test_networks_in_float32_change_values_by_rounding_and_inverses_stay_exact(kind):
    def conditioner(inputs, outputs, key):
        if kind == "local":
            return LocalMLPs(np.array([[0, 1], [1, 0]]), outputs, (8,), key=key)
        network = bj.MLP if kind == "MLP" else SkipMLP
        return network(inputs, outputs, (8, 8), key=key)

    keys = jr.split(jr.key(0), 3)
    couplings = [bj.Coupling(bj.Affine(), 4, mask=mask, conditioner=conditioner, key=keys[0]) for mask in MASKS]
    exact = randomize(bj.Chain(couplings), keys[1], 0.3)
    rounded = with_float32_networks(exact)
    u = jr.normal(keys[2], (200, 4))
    (x, log_det), (near, near_log_det) = (jax.vmap(b.forward_and_log_det)(u) for b in (exact, rounded))
    assert near.dtype == near_log_det.dtype == jnp.float64
    np.testing.assert_allclose(near, x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(near_log_det, log_det, atol=1e-5)
    assert jnp.abs(near - x).max() > 1e-9
    # The first coupling's inputs are recovered to rounding, and then its outputs to the rounding of float32.
    first = rounded.bijections[0]
    np.testing.assert_allclose(jax.vmap(lambda u: first.inverse(first.forward(u)))(u), u, atol=1e-12)
    np.testing.assert_allclose(jax.vmap(rounded.inverse)(near), u, atol=1e-5)


def test_gradients_by_weights_in_float32_are_in_the_precision_of_the_weights():
    coupling = randomize(bj.Coupling(bj.Affine(), 4, hidden=(8,), key=jr.key(0)), jr.key(1), 0.3)

    def loss(coupling, change):
        return jnp.sum(change(coupling).forward(jnp.arange(4.0)) ** 2)

    exact, rounded = (eqx.filter_grad(loss)(coupling, change) for change in (lambda c: c, with_float32_networks))
    for one, other in zip(jax.tree.leaves(exact), jax.tree.leaves(rounded), strict=True):
        assert other.dtype == jnp.float64
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-4)


def own_network(num_inputs, num_outputs, key):
    return eqx.nn.Lambda(lambda x: jnp.concatenate([x, x]))


def test_only_known_networks_of_couplings_are_computed_in_float32():
    masked = bj.MaskedAutoregressive(bj.Affine(), 3, key=jr.key(0))
    own = bj.Coupling(bj.Affine(), 4, conditioner=own_network, key=jr.key(0))
    for same in (masked, own):
        assert all(
            a is b for a, b in zip(jax.tree.leaves(with_float32_networks(same)), jax.tree.leaves(same), strict=True)
        )
