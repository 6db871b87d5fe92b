"""The report of a VAE: a table of its evaluation, and grids of images.

`evaluation` is any object with the attributes of `pushforward.vae.Evaluation`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pushforward.bijections.arrays import ArrayLike
from pushforward.reports import page
from pushforward.reports.figures import new_figure
from pushforward.reports.summary import Facts

EVALUATION_HEAD = ("", "mean", "standard error")
MIN_PIXELS = 800  # along the longer side of an image file


def image_grid(images: ArrayLike) -> Float[np.ndarray, "height width ..."]:
    """Rows and columns of images as one image with dark lines between them.

    Args:
        images: an array of shape (rows, columns, height, width) or (rows, columns, channels, height, width).

    Returns:
        A gray image, or one with three channels along its last axis.
    """
    pixels = np.clip(np.asarray(images, float), 0, 1)
    if pixels.ndim == 5:
        pixels = np.moveaxis(pixels, 2, -1)
        pixels = pixels if pixels.shape[-1] == 3 else pixels[..., 0]
    rows, columns, height, width, *channels = pixels.shape
    padded = np.zeros((rows, columns, height + 1, width + 1, *channels))
    padded[:, :, 1:, 1:] = pixels
    joined = np.moveaxis(padded, 2, 1).reshape(rows * (height + 1), columns * (width + 1), *channels)
    return np.pad(joined, [(0, 1), (0, 1)] + [(0, 0)] * len(channels))


def plot_image_grid(images: ArrayLike) -> Any:
    """A figure of rows and columns of images.

    Args:
        images: the images, as for `image_grid`.
    """
    pixels = image_grid(images)
    height, width = pixels.shape[:2]
    figure = new_figure(figsize=(7, min(7, 7 * height / width)))
    axes = figure.subplots()
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    axes.axis("off")
    return figure


def plot_image_grids(pictures: Mapping[str, ArrayLike]) -> Any:
    """One figure of several image grids.

    Args:
        pictures: the rows and columns of images of each grid, by the name of the grid.
    """
    figure = new_figure(figsize=(10, 8))
    for axes, (name, images) in zip(figure.subplots(2, -(-len(pictures) // 2)).flat, pictures.items(), strict=False):
        axes.imshow(image_grid(images), cmap="gray", vmin=0, vmax=1)
        axes.set_title(name)
    for axes in figure.axes:
        axes.axis("off")
    return figure


def write_image_grid(images: ArrayLike, path: Path) -> None:
    """Write rows and columns of images to an image file, with a whole number of file pixels per image pixel.

    Args:
        images: the images, as for `image_grid`.
        path: the path of the file.
    """
    from matplotlib.image import imsave

    pixels = image_grid(images)
    factor = max(1, MIN_PIXELS // max(pixels.shape[:2]))
    pixels = np.repeat(np.repeat(pixels, factor, 0), factor, 1)
    imsave(path, pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1))


def evaluation_rows(evaluation: Any) -> list[tuple[str, str, str]]:
    """The name, mean and standard error of each number of an evaluation.

    Args:
        evaluation: the evaluation.
    """
    e = evaluation
    rows = [
        ("ELBO", f"{e.elbo:.3f}", f"{e.elbo_se:.3f}"),
        (f"NLL, {e.num_samples} draws", f"{e.nll:.3f}", f"{e.nll_se:.3f}"),
        ("reconstruction", f"{e.reconstruction:.3f}", ""),
        ("KL", f"{e.kl:.3f}", ""),
        ("active latent coordinates", f"{e.active_units}", ""),
    ]
    return rows if e.bits_per_dim is None else [*rows, ("NLL in bits per dimension", f"{e.bits_per_dim:.3f}", "")]


def vae_page(title: str, facts: Facts, evaluation: Any, pictures: Mapping[str, ArrayLike]) -> str:
    """The page of a VAE.

    Args:
        title: the title of the page.
        facts: the facts on the model and the images.
        evaluation: the evaluation.
        pictures: the rows and columns of images of each grid, by the name of the grid.
    """
    parts = [page.table(facts.cells), page.heading("Test images, in nats per image")]
    parts.append(page.table(evaluation_rows(evaluation), EVALUATION_HEAD))
    parts += [page.picture(name, plot_image_grid(images)) for name, images in pictures.items()]
    return page.page(title, parts)
