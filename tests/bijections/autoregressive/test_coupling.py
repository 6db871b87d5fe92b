"""Couplings of angles and other coordinates."""

import math

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward import bijections as bj
from pushforward.testing import check_bijection, randomize


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
