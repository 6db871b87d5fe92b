"""Convolutions as matrix products, because XLA's convolutions are slow on a CPU inside a loop.

Training runs as a compiled loop. Inside it, XLA's convolutions and their gradients take ten times as long on a CPU as
these. On other devices Equinox's convolutions are used.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# A convolution of Equinox. Its fields are unions of types that a type checker cannot resolve.
Layer = Any
# Channels, height and width, which a convolution changes.
Image = Float[Array, "_ _ _"]


def convolve(layer: eqx.nn.Conv2d | eqx.nn.ConvTranspose2d, x: Image) -> Image:
    """Apply a convolution with a square kernel, equal strides and paddings, no dilation and no groups.

    Args:
        layer: the convolution.
        x: one image.
    """
    fast = _transposed if isinstance(layer, eqx.nn.ConvTranspose2d) else _direct
    return jax.lax.platform_dependent(x, cpu=lambda x: fast(layer, x), default=lambda x: layer(x))


def _direct(layer: Layer, x: Image) -> Image:
    (stride, _), ((padding, _), _) = layer.stride, layer.padding
    width = layer.weight.shape[-1]
    size = [(n + 2 * padding - width) // stride + 1 for n in x.shape[1:]]
    patches = _patches(x.transpose(1, 2, 0), width, stride, padding, size)
    out = patches @ layer.weight.transpose(2, 3, 1, 0).reshape(patches.shape[-1], -1)
    return out.transpose(2, 0, 1) + layer.bias


def _transposed(layer: Layer, x: Image) -> Image:
    """Transposed convolution as one ordinary convolution, without inserting zeros between the inputs.

    The inputs lie on every `stride`-th output position. The outputs at a fixed offset (`phase`) from that grid are an
    ordinary convolution of the inputs, with their own subset of the weights. One matrix product computes all phases.
    """
    (stride, _), ((padding, _), _) = layer.stride, layer.padding
    num_out, num_in, width, _ = layer.weight.shape
    size = [
        stride * (n - 1) + width - 2 * padding + extra
        for n, extra in zip(x.shape[1:], layer.output_padding, strict=True)
    ]
    first, last = math.ceil((padding - width + 1) / stride), (stride - 1 + padding) // stride
    near, phase = np.arange(first, last + 1)[:, None], np.arange(stride)
    # Index of the weight for an input at this distance (Equinox stores the kernel reversed); `width` selects a zero.
    taps = width - 1 - (phase + padding - stride * near)
    taps = np.where((taps >= 0) & (taps < width), taps, width)
    kernel = jnp.pad(layer.weight, ((0, 0), (0, 0), (0, 1), (0, 1)))[:, :, taps[:, :, None, None], taps]
    grid = [-(-n // stride) for n in size]
    patches = _patches(x.transpose(1, 2, 0), len(near), 1, -first, grid)
    # Axes: out, in, near, phase, near, phase.
    out = patches @ kernel.transpose(2, 4, 1, 3, 5, 0).reshape(patches.shape[-1], -1)
    out = out.reshape(*grid, stride, stride, num_out).transpose(4, 0, 2, 1, 3)
    out = out.reshape(num_out, stride * grid[0], stride * grid[1])
    return out[:, : size[0], : size[1]] + layer.bias


def _patches(x: Float[Array, "height width channels"], width: int, stride: int, before: int, size: list[int]) -> Array:
    """The patch under the kernel at each position; channels last, so that the matrix product needs no transposition."""
    ends = [max(0, stride * (n - 1) + width - before - have) for n, have in zip(size, x.shape, strict=False)]
    x = jnp.pad(x, (*((before, end) for end in ends), (0, 0)))
    rows, columns = (stride * (n - 1) + 1 for n in size)
    return jnp.concatenate(
        [x[i : i + rows : stride, j : j + columns : stride] for i in range(width) for j in range(width)], axis=-1
    )
