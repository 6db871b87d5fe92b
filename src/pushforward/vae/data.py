"""Images: scikit-learn's digits, .npz files, and the check of pixel values."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Float, Int

from pushforward.bijections.arrays import ArrayLike
from pushforward.masked import check_unmasked

NUM_TRAIN, NUM_VALID = 1297, 200
PICTURES = "read the pictures into one array, such as numpy.stack([numpy.asarray(PIL.Image.open(p)) for p in paths])"


def digits() -> tuple[dict[str, Float[np.ndarray, "_ 8 8"]], dict[str, Int[np.ndarray, "_"]]]:
    """Handwritten digits of 8 x 8 pixels with 17 gray levels k/16, by 43 writers; scikit-learn contains them.

    They are shuffled with a fixed seed and split into 1297 training, 200 validation and 300 test images.

    Returns:
        Two dictionaries with the keys "train", "valid" and "test": the images, and the digit that each one shows.

    Raises:
        ImportError: if scikit-learn is not installed.

    References:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (1998). https://doi.org/10.24432/C50P49
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits are part of scikit-learn, which is not installed: pip install 'pushforward[sklearn]'."
        ) from error
    found: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    ends = (NUM_TRAIN, NUM_TRAIN + NUM_VALID)
    names = ("train", "valid", "test")
    images = (found.images[order] / 16).astype(np.float32)
    return (
        dict(zip(names, np.split(images, ends), strict=True)),
        dict(zip(names, np.split(found.target[order], ends), strict=True)),
    )


def load_images(path: Path) -> dict[str, np.ndarray]:
    """Read images from an .npz or .npy file.

    8-bit integers are divided by 255, unless all of them are 0 or 1.

    Args:
        path: the path of an .npz file with an array "train" and optionally "valid" and "test", or of a file with one
            array, of any name, which is then "train".

    Returns:
        The arrays "train", "valid" and "test" that the file contains.

    Raises:
        ValueError: if the file does not exist, cannot be read, or contains anything other than images of one shape with
            pixels in [0, 1].
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            arrays = {"train": found}
        else:
            with found:
                arrays = {name: found[name] for name in found.files}
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}.") from None
    except Exception as error:  # errors of zip, header and pickle have many classes
        raise ValueError(f"{path} is not a readable .npz or .npy file of arrays: {fault(path, error)}") from error
    if "train" not in arrays:
        if len(arrays) != 1:
            raise ValueError(
                f'{path} must contain an array "train" (and optionally "valid" and "test"), or exactly one array, but '
                f"contains {', '.join(arrays) or 'no array'}."
            )
        arrays = {"train": next(iter(arrays.values()))}
    arrays = {name: arrays[name] for name in ("train", "valid", "test") if name in arrays}
    # All arrays of a file have one scale: the pixels are 0 and 1 only if this holds in every array.
    binary = all(a.max(initial=0) <= 1 for a in arrays.values() if a.dtype == np.uint8)
    scale = np.float32(1 if binary else 255)
    return _checked({name: a / scale if a.dtype == np.uint8 else a for name, a in arrays.items()})


def fault(path: Path, error: Exception) -> str:
    """Why a file does not hold images: it is of another kind, or NumPy cannot read it.

    Args:
        path: the file, or a folder.
        error: the error of NumPy.
    """
    if path.is_dir():
        return f"it is a folder; {PICTURES}."
    with path.open("rb") as file:
        start = file.read(6)
    return str(error) if start.startswith((b"\x93NUMPY", b"PK")) else f"it is of another format; {PICTURES}."


def _checked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    shape = arrays["train"].shape[1:]
    for name, x in arrays.items():
        if x.ndim not in (3, 4):
            raise ValueError(
                f'the array "{name}" must have shape (n, height, width), (n, channels, height, width) or (n, height, '
                f"width, channels), but has shape {x.shape}."
            )
        if x.shape[1:] != shape:
            raise ValueError(f'the images of "{name}" have shape {x.shape[1:]}, but those of "train" have {shape}.')
    checked = {}
    for name, x in arrays.items():
        try:
            checked[name] = check_images(x)
        except ValueError as error:
            raise ValueError(f'the array "{name}": {error}') from error
    return checked


def binarized(images: Float[np.ndarray, "n *shape"], seed: int) -> Float[np.ndarray, "n *shape"]:
    """Black and white pixels, drawn with the gray levels as probabilities; pixels that are 0 or 1 stay.

    Args:
        images: the images.
        seed: the seed of the draws.
    """
    return (np.random.default_rng(seed).random(images.shape) < images).astype(np.float32)


def with_test_images(images: dict[str, np.ndarray], fraction: float, seed: int) -> dict[str, np.ndarray]:
    """The images, where a random fraction of the training images becomes test images if there are none.

    Args:
        images: the arrays "train" and optionally "valid" and "test".
        fraction: the fraction of the training images.
        seed: the seed of the random choice.

    Raises:
        ValueError: if the fraction is less than one image.
    """
    if "test" in images:
        return images
    train = images["train"]
    count = round(fraction * len(train))
    if count < 1:
        raise ValueError(f"there are {len(train)} images, but at least {int(0.5 / fraction) + 1} are needed.")
    rows = np.random.default_rng(seed).permutation(len(train))
    return images | {"train": train[rows[count:]], "test": train[rows[:count]]}


def without_bytes(x: ArrayLike) -> ArrayLike:
    """Images whose pixels are not 8-bit integers: those are divided by 255, unless all of them are 0 or 1.

    Args:
        x: images of any type.

    Raises:
        ValueError: if 8-bit integers are inside a compiled function, where their values are unknown.
    """
    if getattr(x, "dtype", None) != np.uint8:
        return x
    if isinstance(x, Tracer):
        raise ValueError("images of 8 bits are divided by 255 outside of compiled functions only; divide them before.")
    x = np.asarray(x)
    return x / np.float32(1 if x.max(initial=0) <= 1 else 255)


def check_images(x: ArrayLike) -> Float[np.ndarray, "n *shape"]:
    """Convert images to an array of floats and check the pixel values.

    8-bit integers are divided by 255, unless all of them are 0 or 1.

    Args:
        x: images, of shape (n, *shape).

    Raises:
        ValueError: if x is not an array of this shape, or contains pixels that are not finite or not in [0, 1].
    """
    check_unmasked("the images", x, "fill or leave out the masked pixels")
    try:
        x = np.asarray(without_bytes(x if hasattr(x, "dtype") else np.asarray(x)))
        if x.dtype.kind == "c":
            raise ValueError("they are complex.")
        x = x.astype(jnp.result_type(float))
    except (TypeError, ValueError) as error:
        raise ValueError(f"images must be an array of numbers: {error}") from error
    check_shape(x.shape)
    check_pixels(x)
    return x


def check_shape(shape: tuple[int, ...]) -> None:
    """Check the shape of an array of images.

    Args:
        shape: the shape.

    Raises:
        ValueError: if it is not (n, *shape).
    """
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"images must have shape (n, *shape) with every size at least 1, but have shape {shape}.")


def check_pixels(x: Float[np.ndarray, "n *shape"]) -> None:
    """Check the values of pixels.

    Args:
        x: images.

    Raises:
        ValueError: if they are not finite or not in [0, 1].
    """
    if not np.isfinite(x).all():
        raise ValueError(f"the images contain {int((~np.isfinite(x)).sum())} pixels that are NaN or infinite.")
    if x.min() < 0 or x.max() > 1:
        hint = " Divide 8-bit images by 255." if x.min() >= 0 and x.max() <= 255 else ""
        raise ValueError(f"pixels must lie in [0, 1], but lie in [{x.min():g}, {x.max():g}].{hint}")
