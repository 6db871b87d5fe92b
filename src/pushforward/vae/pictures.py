"""What a VAE has learned, as images: reconstructions, samples, traversals and interpolations, and sheets of them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from pushforward.vae.model import VAE


def reconstructions(vae: VAE, x: ArrayLike, key: PRNGKeyArray) -> Float[Array, "2 n ..."]:
    """Images above, what the model makes of them below."""
    return jnp.stack([jnp.asarray(x), vae.reconstruct(x, key)])


def traversals(
    vae: VAE, x: ArrayLike, key: PRNGKeyArray, *, steps: int = 9, reach: float = 3.0
) -> Float[Array, "dim steps ..."]:
    """From one image, each latent coordinate in turn by `reach` prior standard deviations to either side of 0."""
    u = vae.infer(x, key)
    draws = vae.prior.sample(key, (1000,))
    ends = draws.mean(0) + reach * draws.std(0) * jnp.linspace(-1, 1, steps)[:, None]
    grid = jnp.broadcast_to(u, (len(u), steps, len(u)))
    index = jnp.arange(len(u))
    return vae.image(grid.at[index, :, index].set(ends.T))


def interpolations(
    vae: VAE, x: ArrayLike, y: ArrayLike, key: PRNGKeyArray, *, steps: int = 9
) -> Float[Array, "n steps ..."]:
    """Between pairs of images, along straight lines in the coordinates of the prior's base: a flow bends them."""
    bijection = vae.prior.bijection
    a, b = jax.vmap(jax.vmap(bijection.inverse))(vae.infer(jnp.stack([jnp.asarray(x), jnp.asarray(y)]), key))
    weight = jnp.linspace(0, 1, steps)[:, None]
    lines = (1 - weight) * a[:, None] + weight * b[:, None]
    return vae.image(jax.vmap(jax.vmap(bijection.forward))(lines))


def sheet(images: Float[Array, "rows columns ..."]) -> Float[np.ndarray, "height width ..."]:
    """Rows and columns of images as one image with dark lines between, grey, or with three channels last."""
    pixels = np.clip(np.asarray(images, float), 0, 1)
    if pixels.ndim == 5:  # channels first
        pixels = np.moveaxis(pixels, 2, -1)
        pixels = pixels if pixels.shape[-1] == 3 else pixels[..., 0]
    rows, columns, height, width, *channels = pixels.shape
    padded = np.zeros((rows, columns, height + 1, width + 1, *channels))
    padded[:, :, 1:, 1:] = pixels
    joined = np.moveaxis(padded, 2, 1).reshape(rows * (height + 1), columns * (width + 1), *channels)
    return np.pad(joined, [(0, 1), (0, 1)] + [(0, 0)] * len(channels))
