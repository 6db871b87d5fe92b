"""Images that show what a VAE has learned: reconstructions, samples, traversals and interpolations.

A parameter `vae` is a `VAE`. This module does not import that class, because its methods use this module.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.bijections.arrays import ArrayLike


@eqx.filter_jit
def all_pictures(
    vae: Any, x: ArrayLike | None, key: PRNGKeyArray, *, columns: int = 16
) -> dict[str, Float[Array, "..."]]:
    """All kinds of pictures by their names, each an array of rows and columns of images, with channels last if any.

    Args:
        vae: the model.
        x: images; the first ones are shown. There are no interpolations of one image, and without images only samples.
            Images with one axis or more than three have no pictures.
        key: the key for the draws.
        columns: the largest number of images in a row.
    """
    if len(vae.shape) not in (2, 3):
        return {}
    found = {"samples": samples(vae, key, columns=columns)}
    if x is not None:
        x = jnp.asarray(x)[:columns]
        half = len(x) // 2
        found = {"reconstructions": reconstructions(vae, x, key)} | found | {"traversals": traversals(vae, x[0], key)}
        if half:
            found["interpolations"] = interpolations(vae, x[:half], x[half : 2 * half], key)
    return {name: jnp.moveaxis(a, -3, -1) for name, a in found.items()} if vae.channels == "first" else found


def samples(vae: Any, key: PRNGKeyArray, *, columns: int = 16) -> Float[Array, "rows columns ..."]:
    """Expected images at latent vectors that are drawn from the prior.

    Args:
        vae: the model.
        key: the key for the draws.
        columns: the number of images in a row; there are half as many rows.
    """
    return vae.sample(jr.fold_in(key, 1), (columns // 2, columns), expected=True)


def reconstructions(vae: Any, x: ArrayLike, key: PRNGKeyArray) -> Float[Array, "2 n ..."]:
    """Images in the first row, their reconstructions in the second.

    Args:
        vae: the model.
        x: images.
        key: the key for the draws of the posterior.
    """
    return jnp.stack([jnp.asarray(x), vae.reconstruct(x, key)])


def traversals(
    vae: Any, x: ArrayLike, key: PRNGKeyArray, *, steps: int = 9, reach: float = 3.0
) -> Float[Array, "dim steps ..."]:
    """Each row varies one latent coordinate of an image around the mean of the prior.

    Args:
        vae: the model.
        x: one image.
        key: the key for the draws.
        steps: the number of columns.
        reach: the largest distance from the mean, in standard deviations of the prior.
    """
    u = vae.infer(x, key)
    draws = vae.prior.sample(key, (1000,))
    ends = draws.mean(0) + reach * draws.std(0) * jnp.linspace(-1, 1, steps)[:, None]
    grid = jnp.broadcast_to(u, (len(u), steps, len(u)))
    index = jnp.arange(len(u))
    return vae.image(grid.at[index, :, index].set(ends.T))


def interpolations(
    vae: Any, x: ArrayLike, y: ArrayLike, key: PRNGKeyArray, *, steps: int = 9
) -> Float[Array, "n steps ..."]:
    """Each row goes from one image to another, along a straight line in the space of the prior's base distribution.

    Args:
        vae: the model.
        x: the images in the first column.
        y: the images in the last column.
        key: the key for the draws of the posterior.
        steps: the number of columns.
    """
    bijection = vae.prior.bijection
    a, b = bijection.batched.inverse(vae.infer(jnp.stack([jnp.asarray(x), jnp.asarray(y)]), key))
    weight = jnp.linspace(0, 1, steps)[:, None]
    lines = (1 - weight) * a[:, None] + weight * b[:, None]
    return vae.image(bijection.batched.forward(lines))
