"""Networks: pairs of an encoder and the decoder that mirrors it. Each acts on one image or one latent vector."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.arguments import checked
from pushforward.vae.convolution import convolve
from pushforward.vae.layout import Channels, find_channels

KERNEL = 5


class Dense(eqx.Module):
    """A multilayer perceptron from arrays of one shape to arrays of another.

    `equinox.nn.MLP` is not used, because it maps vectors to vectors, and all its hidden layers have the same width.

    Args:
        in_shape: the shape of the input.
        out_shape: the shape of the output.
        hidden: the widths of the hidden layers.
        activate_last: whether to apply the activation after the last layer too.
        key: the key for the initial weights.
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
    r"""A gated convolution $a \cdot \mathrm{sigmoid}(b)$, where $a$ and $b$ are the two halves of the output channels.

    Args:
        convolution: the convolution, with twice as many output channels as the gated convolution.

    References:
        van den Oord et al., Conditional Image Generation with PixelCNN Decoders (2016), equation 2.
        https://arxiv.org/abs/1606.05328
    """

    convolution: eqx.nn.Conv2d | eqx.nn.ConvTranspose2d

    def __call__(self, x: Float[Array, "in height width"]) -> Float[Array, "out new_height new_width"]:
        a, b = jnp.split(convolve(self.convolution, x), 2)
        return a * jax.nn.sigmoid(b)


class ConvEncoder(eqx.Module):
    """Gated convolutions, every second of which halves height and width, then one dense layer.

    Args:
        layers: the convolutions.
        last: the dense layer, from all activations to the features.
    """

    layers: tuple[Gated, ...]
    last: eqx.nn.Linear

    def __call__(self, x: Float[Array, "*channels height width"]) -> Float[Array, " features"]:
        x = x[None] if x.ndim == 2 else x
        for layer in self.layers:
            x = layer(x)
        return jax.nn.silu(self.last(x.ravel()))


class ConvDecoder(eqx.Module):
    """The mirror image of `ConvEncoder`: a dense layer, gated transposed convolutions, and a pointwise convolution.

    Args:
        first: the dense layer, from the latent vector.
        layers: the transposed convolutions.
        last: the pointwise convolution.
        in_shape: the shape of the input of the first convolution.
        out_shape: the shape of the output, (num_outputs, *shape of an image).
    """

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


class ChannelsLast(eqx.Module):
    """A network for images with channels first, as one for images with channels last.

    Args:
        network: an encoder, or a decoder whose outputs have the shape (num_outputs, channels, height, width).
        decodes: whether it is a decoder.
    """

    network: ConvEncoder | ConvDecoder
    decodes: bool = eqx.field(static=True)

    def __call__(self, x: Array) -> Array:
        return jnp.moveaxis(self.network(x), -3, -1) if self.decodes else self.network(jnp.moveaxis(x, -1, -3))


@checked()
def dense_pair(
    shape: tuple[int, ...],
    dim: int,
    num_outputs: int,
    *,
    key: PRNGKeyArray,
    hidden: Sequence[int] = (256,),
    features: int = 64,
) -> tuple[Dense, Dense]:
    """A dense encoder and decoder, for images of any shape.

    Args:
        shape: the shape of an image.
        dim: the dimension of the latent space.
        num_outputs: the number of the likelihood's outputs per pixel.
        key: the key for the initial weights.
        hidden: the widths of the encoder's hidden layers; the decoder has them in reverse order.
        features: the number of the encoder's outputs, on which the posterior is conditioned.
    """
    one, two = jr.split(key)
    encoder = Dense(shape, (features,), hidden, key=one, activate_last=True)
    return encoder, Dense((dim,), (num_outputs, *shape), (features, *hidden[::-1]), key=two)


@checked()
def conv_pair(
    shape: tuple[int, ...],
    dim: int,
    num_outputs: int,
    *,
    key: PRNGKeyArray,
    channels: Sequence[int] = (32, 32, 64, 64),
    features: int = 256,
    layout: Channels | None = None,
) -> tuple[ConvEncoder | ChannelsLast, ConvDecoder | ChannelsLast]:
    """An encoder and a decoder of gated convolutions.

    Args:
        shape: the shape of an image, (height, width), (channels, height, width) or (height, width, channels).
        dim: the dimension of the latent space.
        num_outputs: the number of the likelihood's outputs per pixel.
        key: the key for the initial weights.
        channels: the numbers of channels of the encoder's layers; every second layer halves height and width.
        features: the number of the encoder's outputs, on which the posterior is conditioned.
        layout: where the channels of an image are, "first" or "last"; by default detected from the
            shape, "first" if that is not clear.

    Raises:
        ValueError: if a size is below 1, there are no layers, or the shape has another number of axes.

    References:
        van den Berg et al., Sylvester Normalizing Flows for Variational Inference (2018), appendix.
        https://arxiv.org/abs/1803.05649
    """
    if not channels:
        raise ValueError("channels must have one entry or more, one for each layer, in conv_pair.")
    if len(shape) not in (2, 3):
        raise ValueError(
            "convolutions need images of shape (height, width), (channels, height, width) or (height, width, "
            f"channels), but got shape {shape}."
        )
    last = find_channels(shape, layout, unclear="first") == "last"
    shape = (shape[2], *shape[:2]) if last else shape
    depth, height, width = shape if len(shape) == 3 else (1, *shape)
    keys = iter(jr.split(key, 2 * len(channels) + 3))
    counts, strides = (depth, *channels), [1 + n % 2 for n in range(len(channels))]
    sizes, encoders, decoders = [(height, width)], [], []
    for before, after, stride in zip(counts[:-1], counts[1:], strides, strict=True):
        convolution = eqx.nn.Conv2d(before, 2 * after, KERNEL, stride, padding=KERNEL // 2, key=next(keys))
        encoders.append(Gated(convolution))
        sizes.append((-(-sizes[-1][0] // stride), -(-sizes[-1][1] // stride)))
    # The decoder goes through the layers backwards. Its last layer keeps the first layer's channels: the pointwise
    # convolution then maps them to pixels.
    for index in reversed(range(len(channels))):
        before, after = counts[index + 1], counts[index] if index else counts[1]
        stride = strides[index]
        # A stride of 2 maps two sizes to the same size; the output padding restores the size before the stride.
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
    return (ChannelsLast(encoder, False), ChannelsLast(decoder, True)) if last else (encoder, decoder)
