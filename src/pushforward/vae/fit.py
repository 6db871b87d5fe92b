"""Training a VAE on images."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from typing import Any

import jax.random as jr
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from pushforward.arguments import FROM_ZERO, checked
from pushforward.bijections.arrays import ArrayLike
from pushforward.training.callbacks import Callback
from pushforward.training.checkpoint import Checkpoint, fingerprint, fingerprint_optimizer, shapes
from pushforward.training.devices import check_mesh
from pushforward.training.history import History
from pushforward.training.optimizers import clip_by_running_norm
from pushforward.training.run import Run
from pushforward.training.stopping import EarlyStopping
from pushforward.training.trainer import partition
from pushforward.vae.data import check_images
from pushforward.vae.layout import Channels, find_channels
from pushforward.vae.model import VAE
from pushforward.vae.objective import NegativeBound
from pushforward.vae.recipe import build
from pushforward.vae.stored import StoredImages, stored_images

# The largest norm of a gradient, relative to the typical norm. The gradients of some layers, such as nearly singular
# planar layers, have heavy tails.
CLIP = 2.0


@checked(eager=True, mesh=None, objective=None, warmup=FROM_ZERO)
def fit_vae(
    images: ArrayLike | str | os.PathLike,
    *,
    key: PRNGKeyArray,
    vae: VAE | None = None,
    validation: float | ArrayLike | str | os.PathLike = 0.1,
    binarize: bool = False,
    objective: Callable[..., NegativeBound] = NegativeBound,
    warmup: int = 0,
    batch_size: int = 100,
    learning_rate: float | optax.Schedule = 1e-3,
    optimizer: optax.GradientTransformation | None = None,
    max_epochs: int = 300,
    patience: int = 30,
    progress: bool = False,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike | None = None,
    mesh: Mesh | None = None,
    channels: Channels | None = None,
) -> tuple[VAE, History]:
    r"""Train a VAE with Adam, and stop when the ELBO of validation images has not increased for `patience` epochs.

    The VAE is evaluated after every epoch, and the one with the highest ELBO is returned, also after Ctrl-C. Gradients
    are clipped to twice their typical norm so far. A step whose loss or gradient is not finite is skipped. After an
    epoch in which every step was skipped, training continues from the best parameters.

    Args:
        images: training images, of shape (n, *shape), with pixels in [0, 1] or of 8 bits: (n, height, width), or with
            channels before or after height and width. The VAE takes and returns images of this layout. A `numpy.memmap`
            or the path of an .npy file stays on disk, and the images of each step are read from it.
        key: for all randomness.
        vae: the initial VAE; by default that of `vae.build`, with spline couplings in posterior and prior.
        validation: the fraction of the images that is used for validation, or the validation images.
        binarize: whether to draw black and white pixels with the gray levels as probabilities: again in every epoch
            for training images, once for validation images.
        objective: makes the objective from training images, validation images and the options `batch_size`, `binarize`
            and `warmup`. For other options of `NegativeBound`, such as free bits or path gradients, give
            `functools.partial(NegativeBound, free_bits=2.0)`.
        warmup: the number of epochs in which the weight $\beta$ of the KL term grows linearly to 1. The ELBO of
            validation images always has $\beta = 1$. Early stopping starts after the warm-up.
        batch_size: the number of images in a step.
        learning_rate: the learning rate of Adam, a number or an Optax schedule. Each new schedule object causes a new
            compilation.
        optimizer: an Optax optimizer that replaces Adam and the clipping of gradients.
        max_epochs: the largest number of passes through the images.
        patience: training stops after this number of epochs without a higher ELBO of validation images.
        progress: whether to show a progress bar.
        callback: called after every epoch with a `Progress`, whose loss is minus the ELBO of validation images;
            training stops if it returns True.
        checkpoint: a file that keeps the state of the training. If it exists, training resumes from it, with a result
            that is bitwise identical to that of an uninterrupted training; `max_epochs` and `patience` may differ.
        mesh: a `jax.sharding.Mesh` whose devices share the images of each step, each with all parameters; the
            result equals that of one device up to rounding.
        channels: where the channels of an image are, "first" or "last". By default the axis of 1, 3 or 4 channels is
            detected; the field `channels` of the VAE and its summary say which was taken.

    Returns:
        The VAE with the highest ELBO, and the history with one evaluation before training and one per epoch. Its
        metrics are `reconstruction`, `kl` and `beta`, means over the steps of an epoch.

    Raises:
        ValueError: for images that are not finite, not in [0, 1], of another shape or layout than the VAE's, or that
            the likelihood cannot have generated; for images whose channels are not clear; for options that are too
            small; for the checkpoint of another training.
        OSError: if the checkpoint cannot be written.
        FloatingPointError: if the ELBO of validation images was never finite.

    Examples:
        >>> import numpy as np, jax, pushforward as pf
        >>> images = np.random.default_rng(0).uniform(size=(100, 4, 4))
        >>> model = pf.vae.build((4, 4), key=jax.random.key(0), dim=2, widths=(16,), num_layers=1)
        >>> model, history = pf.fit_vae(images, key=jax.random.key(1), vae=model, binarize=True, max_epochs=2)
        >>> model.sample(jax.random.key(2), (3,)).shape
        (3, 4, 4)
    """
    x = _images(images)
    if min(max_epochs, patience) < 1:
        raise ValueError(f"max_epochs and patience must be at least 1, but are {max_epochs} and {patience}.")
    build_key, split_key, train_key = jr.split(key, 3)
    if vae is None:
        vae = build(x.shape[1:], key=build_key, channels=channels)
    elif channels is not None and find_channels(vae.shape, channels) != vae.channels:
        raise ValueError(f"the VAE has channels {vae.channels}, but channels={channels!r} is given.")
    x, validation_images = _split(x, validation, split_key)
    for name, values in (("images", x), ("validation", validation_images)):
        if values.shape[1:] != vae.shape:
            raise ValueError(f"{name} must have the VAE's image shape {vae.shape}, but have shape {values.shape}.")
        if not binarize:
            for part in values.chunks() if isinstance(values, StoredImages) else [values]:
                vae.likelihood.check(part)
    if isinstance(objective, NegativeBound):
        raise TypeError("objective must be a function that makes the objective, but is an instance, in fit_vae.")
    bound = objective(x, validation_images, batch_size=batch_size, binarize=binarize, warmup=warmup)
    check_mesh(mesh, {"images of a step": bound.batches.batch_size})
    learning_rate = learning_rate if callable(learning_rate) else float(learning_rate)
    optimizer = _adam(learning_rate) if optimizer is None else optimizer

    def facts():
        return {
            "fit": "fit_vae",
            "VAE": fingerprint(vae),
            "shapes": shapes((x, validation_images)),
            "training images": fingerprint(_compared(x)),
            "validation images": fingerprint(_compared(validation_images)),
            "optimizer": fingerprint_optimizer(optimizer, partition(vae)[0]),
            "objective": type(bound).__name__,
            **{f.name: getattr(bound, f.name) for f in dataclasses.fields(bound) if f.metadata.get("static")},
        }

    steps = bound.batches.steps_per_epoch
    with Run(
        "VAE", max_epochs * steps, Checkpoint(checkpoint, facts, key, mesh),
        progress=progress, callback=callback, mesh=mesh, format_loss=lambda loss: f"ELBO {-loss:.3f}",
    ) as run:  # fmt: skip
        best = run.train(
            "training", vae, bound, train_key,
            optimizer=optimizer,
            steps=max_epochs * steps,
            evaluate_every=steps,
            # The first evaluation is before training.
            stopping=EarlyStopping(patience, start=warmup + 1),
        )  # fmt: skip
    run.conclude(best.loss)
    return best.model, run.history


@functools.lru_cache
def _adam(learning_rate: float | optax.Schedule) -> optax.GradientTransformation:
    """Adam with clipping; one object for equal arguments, so that fits with equal arguments share one
    compiled program.
    """
    return optax.chain(clip_by_running_norm(CLIP), optax.adam(learning_rate))


def _images(images: ArrayLike | str | os.PathLike) -> np.ndarray | StoredImages:
    stored = stored_images(images)
    return check_images(images) if stored is None else stored  # pyright: ignore[reportArgumentType]


def _compared(images: np.ndarray | StoredImages) -> Any:
    """What identifies images: all pixels in memory, or the places and some of the pixels of a file."""
    return (images.rows, images.some()) if isinstance(images, StoredImages) else images


def _split(
    x: np.ndarray | StoredImages, validation: float | ArrayLike | str | os.PathLike, key: PRNGKeyArray
) -> tuple[np.ndarray | StoredImages, np.ndarray | StoredImages]:
    """Training images and validation images."""
    if not isinstance(validation, (int, float, np.floating)):
        return x, _images(validation)
    if not 0 < validation < 1 or len(x) < 2:
        raise ValueError(
            f"validation must be images, or a share between 0 and 1 of at least two images, but is {validation} of "
            f"{len(x)} images."
        )
    rows = np.asarray(jr.permutation(key, len(x)))
    count = min(max(1, math.ceil(validation * len(x))), len(x) - 1)
    if isinstance(x, StoredImages):
        return x.take(rows[count:]), x.take(rows[:count])
    return x[rows[count:]], x[rows[:count]]
