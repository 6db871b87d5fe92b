"""Positive numbers from raw ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pushforward import bijections as bj
from pushforward.bijections.positive import positive


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_scales_of_any_size_in_float32(scale):
    with jax.enable_x64(False):
        affine = bj.Affine(0.0, scale)
        x, log_det = affine.forward_and_log_det(jnp.array(2.0))
        np.testing.assert_allclose(x, 2 * scale, rtol=1e-5)
        np.testing.assert_allclose(log_det, np.log(scale), rtol=1e-5)
        np.testing.assert_allclose(affine.inverse(x), 2.0, rtol=1e-5)
        slope = jax.grad(lambda raw: positive(raw))(affine.raw_scale)
        np.testing.assert_allclose(slope, 1.0 if scale > 1 else float(scale) ** 2, rtol=1e-4, atol=1e-38)
