"""Images to train on: scikit-learn's digits, and .npz files."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Int

TRAIN, VALID = 1297, 200


def digits() -> tuple[dict[str, Float[np.ndarray, "n 8 8"]], dict[str, Int[np.ndarray, " n"]]]:
    """Handwritten digits of 8 x 8 pixels and 17 grey levels, k/16: 1297 to train, 200 to validate, 300 to test.

    They come with scikit-learn, from 43 writers, in an order that is mixed here once and for all.

    Returns:
        The images, and the digits that they show, by "train", "valid" and "test".

    Raises:
        ImportError: without scikit-learn.

    References:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (1998). https://doi.org/10.24432/C50P49
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits come with scikit-learn, which is not installed: pip install 'pushforward[sklearn]'."
        ) from error
    found: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    ends = (TRAIN, TRAIN + VALID)
    names = ("train", "valid", "test")
    images = (found.images[order] / 16).astype(np.float32)
    return (
        dict(zip(names, np.split(images, ends), strict=True)),
        dict(zip(names, np.split(found.target[order], ends), strict=True)),
    )


def load_images(path: Path) -> dict[str, np.ndarray]:
    """The images of an .npz file: its arrays "train" and, if they are there, "valid" and "test", or its only array.

    Integers of 8 bits become numbers in [0, 1]: they are divided by 255, unless all of them are 0 and 1.

    Raises:
        ValueError: for a file that is none such.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}.") from None
    except Exception as error:  # zip, header and pickle errors are of many classes
        raise ValueError(f"{path} is not a readable .npz file of arrays: {error}") from error
    if "train" not in arrays:
        if len(arrays) != 1:
            raise ValueError(
                f'{path} must hold an array "train" (and "valid", "test"), or one array only, but holds '
                f"{', '.join(arrays) or 'none'}."
            )
        arrays = {"train": next(iter(arrays.values()))}
    arrays = {name: arrays[name] for name in ("train", "valid", "test") if name in arrays}
    # One scale for all arrays of the file: a mask is one of 0 and 1 everywhere.
    mask = all(a.max(initial=0) <= 1 for a in arrays.values() if a.dtype == np.uint8)
    scale = np.float32(1 if mask else 255)
    return {name: a / scale if a.dtype == np.uint8 else a for name, a in arrays.items()}


def check_images(x: ArrayLike) -> Float[np.ndarray, "n *shape"]:
    """The images as an array of floats.

    Raises:
        ValueError: if they are none, or not finite, or outside of [0, 1].
    """
    try:
        x = np.asarray(x, dtype=jnp.result_type(float))
    except (TypeError, ValueError) as error:
        raise ValueError(f"images must be an array of numbers: {error}") from error
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"images must have shape (n, *shape), no size of which is 0, but have shape {x.shape}.")
    if not np.isfinite(x).all():
        raise ValueError(f"the images hold {int((~np.isfinite(x)).sum())} pixels that are NaN or infinite.")
    if x.min() < 0 or x.max() > 1:
        hint = " Divide 8-bit images by 255." if x.min() >= 0 and x.max() <= 255 else ""
        raise ValueError(f"pixels must lie in [0, 1], but lie in [{x.min():g}, {x.max():g}].{hint}")
    return x
