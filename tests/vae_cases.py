"""Images and small VAEs shared by the tests of `vae`."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from pushforward import vae as pv
from pushforward.bijections.arrays import trainable

KEY = jr.key(0)


SHAPE = (3, 4)


def images(n=20, seed=0):
    """Images of bars of two kinds, with noise."""
    rng = np.random.default_rng(seed)
    bars = np.zeros((2, *SHAPE))
    bars[0, 1], bars[1, :, 2] = 1, 1
    return (rng.random((n, *SHAPE)) < 0.1 + 0.8 * bars[rng.integers(0, 2, n)]).astype(float)


@functools.cache
def small(posterior="gaussian", prior="normal", *, dim=2, likelihood=None):
    sizes = {"num_layers": 2, "prior_layers": 1, "widths": (8,), "features": 5}
    return pv.build(SHAPE, key=KEY, dim=dim, posterior=posterior, prior=prior, likelihood=likelihood, **sizes)


def far(tree, scale=0.3):
    """Parameters far from their initial values."""
    rng = np.random.default_rng(7)
    arrays, rest = eqx.partition(tree, trainable(tree))
    return eqx.combine(jax.tree.map(lambda a: jnp.asarray(a + scale * rng.normal(size=a.shape)), arrays), rest)
