"""Bijections of angles are continuous where the circle is cut."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from pushforward import bijections as bj
from pushforward.testing import check_bijection, randomize

ENDS = jnp.array([-math.pi, math.pi, 3 * math.pi, 7.0, 0.0])


def test_spline_of_the_circle(precision):
    spline = bj.CircularSpline(4)
    check_bijection(spline, key=jr.key(0), points=ENDS, scales=(0.0, 1.0, 3.0))
    far = randomize(spline, jr.key(1), 2.0)
    x, log_slope = jax.vmap(far.forward_and_log_det)(ENDS)
    turned, same = jax.vmap(far.forward_and_log_det)(ENDS + 2 * math.pi)
    np.testing.assert_allclose(turned, x + 2 * math.pi, rtol=1e-5)
    np.testing.assert_allclose(same, log_slope, atol=1e-4)
