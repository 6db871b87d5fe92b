"""Newton paths end at modes, with the Gaussian of the curvature."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward.posterior.search.newton import newton_paths


@pytest.mark.parametrize("dim", [3, 300])
def test_the_gaussian_of_the_mode_whatever_its_scales(dim):
    """From matrices in few dimensions, from diagonals in many."""
    scales, mean = 10.0 ** np.linspace(-3, 3, dim), np.linspace(-1, 1, dim)
    starts = jnp.stack([jnp.zeros(dim), jnp.ones(dim)])
    locs, factors = newton_paths(lambda x: -0.5 * jnp.sum(((x - mean) / scales) ** 2), starts, jr.key(0))
    np.testing.assert_allclose(locs, np.stack([mean, mean]), atol=1e-9)
    expected = np.diag(scales) if dim == 3 else scales
    np.testing.assert_allclose(factors, np.stack([expected] * 2), rtol=1e-6)
