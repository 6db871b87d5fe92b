"""The report of a VAE: a table of its evaluation, and grids of images.

`evaluation` is any object with the attributes of `pushforward.vae.Evaluation`.
"""

import base64
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pushforward.bijections.arrays import ArrayLike
from pushforward.reports.blocks import Image, Section, Table, Text
from pushforward.reports.figures import new_figure
from pushforward.reports.page import page
from pushforward.reports.posterior import settings, training
from pushforward.reports.summary import Facts
from pushforward.reports.verdicts import of_vae, unevaluated_vae
from pushforward.training.history import History

EVALUATION_HEAD = ("", "mean", "standard error")
MEANINGS = (
    "a lower bound of the log-likelihood of an image, which training maximizes",
    "minus the log-likelihood of an image, by importance sampling; lower is better",
    "minus the log-likelihood of an image given its latent vector",
    "how much the latent vector says about the image",
    "latent coordinates that depend on the image; the others are unused",
    "the length of an image's shortest code, for each of its numbers",
)
PICTURES = {
    "reconstructions": "Test images in the first row, and below each the image decoded from its latent vector.",
    "samples": "New images: latent vectors are drawn from the prior and decoded.",
    "traversals": "In each row one latent coordinate of an image changes; rows without change are unused coordinates.",
    "interpolations": "In each row, one test image changes into another.",
}
NO_PICTURES = "There are no pictures of images with one axis or more than three."
LEARNING = "The ELBO of the validation images after each epoch. The model with the highest one is kept."
MIN_PIXELS = 800  # along the longer side of an image file


def image_grid(images: ArrayLike) -> Float[np.ndarray, "height width ..."]:
    """Rows and columns of images as one image with dark lines between them.

    Args:
        images: an array of shape (rows, columns, height, width) or (rows, columns, height, width, channels).

    Returns:
        A gray image, or one with three channels along its last axis.
    """
    pixels = np.clip(np.asarray(images, float), 0, 1)
    if pixels.ndim == 5:
        # Opacity is not shown.
        pixels = pixels[..., :3] if pixels.shape[-1] in (3, 4) else pixels[..., 0]
    rows, columns, height, width, *channels = pixels.shape
    padded = np.zeros((rows, columns, height + 1, width + 1, *channels))
    padded[:, :, 1:, 1:] = pixels
    joined = np.moveaxis(padded, 2, 1).reshape(rows * (height + 1), columns * (width + 1), *channels)
    return np.pad(joined, [(0, 1), (0, 1)] + [(0, 0)] * len(channels))


def plot_image_grids(pictures: Mapping[str, ArrayLike]) -> Any:
    """One figure of several image grids.

    Args:
        pictures: the rows and columns of images of each grid, by the name of the grid.

    Raises:
        ValueError: if there are none.
    """
    if not pictures:
        raise ValueError(NO_PICTURES)
    figure = new_figure(figsize=(10, 8))
    for axes, (name, images) in zip(figure.subplots(2, -(-len(pictures) // 2)).flat, pictures.items(), strict=False):
        axes.imshow(image_grid(images), cmap="gray", vmin=0, vmax=1)
        axes.set_title(name)
    for axes in figure.axes:
        axes.axis("off")
    return figure


def write_image_grid(images: ArrayLike, file: Path | io.BytesIO) -> None:
    """Write rows and columns of images to an image file, with a whole number of file pixels per image pixel.

    Args:
        images: the images, as for `image_grid`.
        file: the path of the file, or an open binary file.
    """
    from matplotlib.image import imsave

    pixels = image_grid(images)
    factor = max(1, MIN_PIXELS // max(pixels.shape[:2]))
    pixels = np.repeat(np.repeat(pixels, factor, 0), factor, 1)
    imsave(file, pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1), format="png")


def evaluation_rows(evaluation: Any) -> list[tuple[str, str, str]]:
    """The name, mean and standard error of each number of an evaluation.

    Args:
        evaluation: the evaluation.
    """
    e = evaluation
    rows = [
        ("ELBO", f"{e.elbo:.3f}", "" if math.isnan(e.elbo_se) else f"{e.elbo_se:.3f}"),
        (f"NLL, {e.num_samples} draws", f"{e.nll:.3f}", "" if math.isnan(e.nll_se) else f"{e.nll_se:.3f}"),
        ("reconstruction", f"{e.reconstruction:.3f}", ""),
        ("KL", f"{e.kl:.3f}", ""),
        ("active latent coordinates", "" if e.active_units is None else f"{e.active_units}", ""),
    ]
    return rows if e.bits_per_dim is None else [*rows, ("NLL in bits per dimension", f"{e.bits_per_dim:.3f}", "")]


def vae_page(
    title: str,
    facts: Facts,
    evaluation: Any,
    pictures: Mapping[str, ArrayLike],
    history: History | None = None,
    command: str = "",
) -> str:
    """The page of a VAE.

    Args:
        title: the title of the page.
        facts: the facts on the model and the images.
        evaluation: the evaluation; None if there are no test images.
        pictures: the rows and columns of images of each grid, by the name of the grid.
        history: the history of the training, if it is known.
        command: the command that repeats the training, if there is one.
    """
    # Compiled programs return them in the order of the alphabet.
    ordered = sorted(pictures, key=[*PICTURES, *pictures].index)
    images = [Image(name, as_data_url(pictures[name]), PICTURES.get(name, "")) for name in ordered]
    in_terminal = bool(command)
    scores, verdict = [], unevaluated_vae(in_terminal=in_terminal)
    if evaluation is not None:
        rows = [(*row, meaning) for row, meaning in zip(evaluation_rows(evaluation), MEANINGS, strict=False)]
        scores = [Section("Test images, in nats per image", [Table(rows, (*EVALUATION_HEAD, "meaning"))])]
        verdict = of_vae(evaluation, in_terminal=in_terminal)
    sections = [
        *scores,
        Section("Pictures", images or [Text(NO_PICTURES)]),
        *(() if history is None else (training(history, "ELBO of validation images (nats)", text=LEARNING),)),
        settings(facts, command),
    ]
    return page(title, "Variational autoencoder", verdict, sections)


def as_data_url(images: ArrayLike) -> str:
    """Rows and columns of images as a PNG image inside a URL.

    Args:
        images: the images, as for `image_grid`.
    """
    file = io.BytesIO()
    write_image_grid(images, file)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
