"""Encoders and decoders in pairs that mirror each other. Each acts on one image or one latent vector."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.vae.convolution import convolve

KERNEL = 5


class Dense(eqx.Module):
    """A multilayer perceptron from arrays of one shape to arrays of another.

    Args:
        in_shape: of what it takes.
        out_shape: of what it gives.
        hidden: widths of the hidden layers.
        activate_last: whether the activation follows the last layer too, as a part of a larger network wants.
        key: for the initial weights.
    """

    layers: tuple[eqx.nn.Linear, ...]
    out_shape: tuple[int, ...] = eqx.field(static=True)
    activate_last: bool = eqx.field(static=True)

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden: Sequence[int],
        *,
        key: PRNGKeyArray,
        activate_last: bool = False,
    ):
        sizes = (math.prod(in_shape), *hidden, math.prod(out_shape))
        keys = jr.split(key, len(sizes) - 1)
        self.layers = tuple(eqx.nn.Linear(i, o, key=k) for i, o, k in zip(sizes[:-1], sizes[1:], keys, strict=True))
        self.out_shape, self.activate_last = tuple(out_shape), activate_last

    def __call__(self, x: Array) -> Array:
        x = x.ravel()
        for layer in self.layers[:-1]:
            x = jax.nn.silu(layer(x))
        x = self.layers[-1](x).reshape(self.out_shape)
        return jax.nn.silu(x) if self.activate_last else x


class Gated(eqx.Module):
    r"""A convolution of twice as many channels, half of which gate the others: $a \cdot \mathrm{sigmoid}(b)$.

    References:
        van den Oord et al., Conditional Image Generation with PixelCNN Decoders (2016), equation 2.
        https://arxiv.org/abs/1606.05328
    """

    convolution: eqx.nn.Conv2d | eqx.nn.ConvTranspose2d

    def __call__(self, x: Float[Array, "channels height width"]) -> Float[Array, "channels height width"]:
        a, b = jax.numpy.split(convolve(self.convolution, x), 2)
        return a * jax.nn.sigmoid(b)


class ConvEncoder(eqx.Module):
    """Gated convolutions, every second of which halves height and width, then one dense layer to the features."""

    layers: tuple[Gated, ...]
    last: eqx.nn.Linear

    def __call__(self, x: Float[Array, "*channels height width"]) -> Float[Array, " features"]:
        x = x[None] if x.ndim == 2 else x
        for layer in self.layers:
            x = layer(x)
        return jax.nn.silu(self.last(x.ravel()))


class ConvDecoder(eqx.Module):
    """The mirror of `ConvEncoder`: a dense layer, then gated transposed convolutions, then a pointwise one."""

    first: eqx.nn.Linear
    layers: tuple[Gated, ...]
    last: eqx.nn.Conv2d
    in_shape: tuple[int, ...] = eqx.field(static=True)
    out_shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, u: Float[Array, " dim"]) -> Float[Array, "k *shape"]:
        x = jax.nn.silu(self.first(u)).reshape(self.in_shape)
        for layer in self.layers:
            x = layer(x)
        return self.last(x).reshape(self.out_shape)


def dense_pair(
    shape: tuple[int, ...],
    dim: int,
    num_outputs: int,
    *,
    key: PRNGKeyArray,
    hidden: Sequence[int] = (256,),
    features: int = 64,
) -> tuple[Dense, Dense]:
    """An encoder from images of any shape to features, and a decoder from latent vectors to images, both dense.

    Args:
        shape: of an image.
        dim: of the latent space.
        num_outputs: the likelihood's.
        key: for the initial weights.
        hidden: widths of the encoder's hidden layers; the decoder has them in reverse.
        features: the size of what the encoder emits, which is the posterior's condition.
    """
    _check(shape, dim, num_outputs, features, hidden)
    one, two = jr.split(key)
    encoder = Dense(shape, (features,), hidden, key=one, activate_last=True)
    return encoder, Dense((dim,), (num_outputs, *shape), (features, *hidden[::-1]), key=two)


def conv_pair(
    shape: tuple[int, ...],
    dim: int,
    num_outputs: int,
    *,
    key: PRNGKeyArray,
    channels: Sequence[int] = (32, 32, 64, 64),
    features: int = 256,
) -> tuple[ConvEncoder, ConvDecoder]:
    """A gated convolutional encoder and its mirror image.

    Args:
        shape: of an image, (height, width) or (channels, height, width).
        dim: of the latent space.
        num_outputs: the likelihood's.
        key: for the initial weights.
        channels: of the layers; each second one halves height and width.
        features: the size of what the encoder emits, which is the posterior's condition.

    References:
        van den Berg et al., Sylvester Normalizing Flows for Variational Inference (2018), appendix.
        https://arxiv.org/abs/1803.05649
    """
    _check(shape, dim, num_outputs, features, channels)
    if len(shape) not in (2, 3):
        raise ValueError(
            f"convolutions need images of shape (height, width) or (channels, height, width), not {shape}."
        )
    depth, height, width = shape if len(shape) == 3 else (1, *shape)
    keys = iter(jr.split(key, 2 * len(channels) + 3))
    counts, strides = (depth, *channels), [1 + n % 2 for n in range(len(channels))]
    sizes, encoders, decoders = [(height, width)], [], []
    for before, after, stride in zip(counts[:-1], counts[1:], strides, strict=True):
        convolution = eqx.nn.Conv2d(before, 2 * after, KERNEL, stride, padding=KERNEL // 2, key=next(keys))
        encoders.append(Gated(convolution))
        sizes.append((-(-sizes[-1][0] // stride), -(-sizes[-1][1] // stride)))
    # Backwards, from as many channels to as many; the first stays as wide as it is, for pixels have no channels.
    for index in reversed(range(len(channels))):
        before, after = counts[index + 1], counts[index] if index else counts[1]
        stride = strides[index]
        # Of the two sizes that a stride of 2 makes one, the one that the encoder had.
        extra = tuple(big - stride * (small - 1) - 1 for big, small in zip(sizes[index], sizes[index + 1], strict=True))
        decoders.append(
            Gated(
                eqx.nn.ConvTranspose2d(
                    before, 2 * after, KERNEL, stride, output_padding=extra, padding=KERNEL // 2, key=next(keys)
                )
            )
        )
    inner = (channels[-1], *sizes[-1])
    encoder = ConvEncoder(tuple(encoders), eqx.nn.Linear(math.prod(inner), features, key=next(keys)))
    decoder = ConvDecoder(
        eqx.nn.Linear(dim, math.prod(inner), key=next(keys)),
        tuple(decoders),
        eqx.nn.Conv2d(counts[1], num_outputs * depth, 1, key=next(keys)),
        inner,
        (num_outputs, *shape),
    )
    return encoder, decoder


def _check(shape, dim, num_outputs, features, widths) -> None:
    if min(*shape, dim, num_outputs, features, *widths) < 1:
        raise ValueError(
            f"sizes must be positive, but got shape={tuple(shape)}, dim={dim}, num_outputs={num_outputs}, "
            f"features={features} and widths {tuple(widths)}."
        )
