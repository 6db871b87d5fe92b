"""Convolutions as matrix products against the library's, with gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from products import few
from pushforward.vae.convolution import convolve

KERNELS = [(5, 1, 2), (5, 2, 2), (3, 2, 1), (5, 3, 2), (1, 1, 0), (4, 2, 0), (2, 3, 0)]


def agree(layer, x):
    weights = jr.normal(jr.key(2), eqx.filter_eval_shape(layer, x).shape)

    def total(layer, x, apply):
        return jnp.sum(weights * apply(layer, x))

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)), static_argnums=2)
    found, expected = (gradient(layer, x, apply) for apply in (convolve, lambda layer, x: layer(x)))
    np.testing.assert_allclose(convolve(layer, x), layer(x), atol=1e-12)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-11)


@pytest.mark.parametrize(("width", "stride", "padding"), KERNELS)
def test_convolution(width, stride, padding):
    layer = eqx.nn.Conv2d(3, 4, width, stride, padding=padding, key=jr.key(0))
    agree(layer, jr.normal(jr.key(1), (3, 9, 12)))


@pytest.mark.parametrize("extra", few([(0, 0), (1, 0), (0, 1)], (1, 0)))
@pytest.mark.parametrize(("width", "stride", "padding"), KERNELS)
def test_transposed_convolution(width, stride, padding, extra):
    extra = extra if stride > 1 else (0, 0)
    layer = eqx.nn.ConvTranspose2d(3, 4, width, stride, output_padding=extra, padding=padding, key=jr.key(0))
    agree(layer, jr.normal(jr.key(1), (3, 5, 7)))
