"""Images on disk, of which only those of a step are in memory."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pushforward.training.data import evenly_spaced
from pushforward.training.mapped import Mapped
from pushforward.vae.data import check_pixels, check_shape, fault

# How many images are in memory when all are checked, and how many a checkpoint compares.
CHUNK, COMPARED = 1_000, 1_000


class StoredImages(eqx.Module):
    """Images of a memory-mapped array.

    Args:
        mapped: the array; its values are pixels in [0, 1].
        rows: the indices of the images in the array.
    """

    mapped: Mapped = eqx.field(static=True)
    rows: Int[Array, " n"]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an array of all images."""
        return (len(self), *self.mapped.leaves[0].shape[1:])

    @property
    def dtype(self) -> Any:
        """The dtype of the images."""
        return self.mapped.dtypes[0]

    def at(self, indices: Int[Array, " batch"]) -> Float[Array, "batch *shape"]:
        """Some of the images; the indices may be traced.

        Args:
            indices: the indices of the images.
        """
        return self.mapped.at(self.rows[indices])

    def take(self, indices: Int[np.ndarray, " m"]) -> "StoredImages":
        """Some of the images, on disk.

        Args:
            indices: the indices of the images.
        """
        return StoredImages(self.mapped, self.rows[indices])

    def chunks(self) -> Iterator[Float[np.ndarray, "batch *shape"]]:
        """All images, some at a time."""
        for start in range(0, len(self), CHUNK):
            yield self.mapped.read(self.rows[start : start + CHUNK])

    def some(self) -> Float[np.ndarray, "m *shape"]:
        """Some images, evenly spaced."""
        return self.mapped.read(self.rows[evenly_spaced(len(self), COMPARED)])


def stored_images(images: Any) -> StoredImages | None:
    """The images of a memory-mapped array or of the path of an .npy file; None for anything else.

    Pixels are as in `check_images`. All are read once, some at a time.

    Args:
        images: the images.

    Raises:
        ValueError: if the file does not exist or is no .npy file of numbers, the array does not have shape
            (n, *shape), or contains pixels that are not finite or not in [0, 1].
    """
    if isinstance(images, str | os.PathLike):
        images = _opened(Path(images))
    if not isinstance(images, np.memmap):
        return None
    check_shape(images.shape)
    if images.dtype.kind not in "biuf":
        raise ValueError(f"images must be an array of numbers, but have dtype {images.dtype}.")
    rows = jnp.arange(len(images))
    if images.dtype == np.uint8:
        parts = (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))
        scale = np.float32(1 if max(part.max() for part in parts) <= 1 else 255)
        return StoredImages(Mapped(images, lambda pixels: pixels / scale, real=True), rows)
    found = StoredImages(Mapped(images, real=True), rows)
    for part in found.chunks():
        check_pixels(part)
    return found


def _opened(path: Path) -> np.memmap:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}.") from None
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is not an .npy file of images: {fault(path, error)}") from error
    if not isinstance(array, np.memmap):
        raise ValueError(f"{path} is not an .npy file of images, but holds several arrays or none; save one of them.")
    return array
