"""Images on disk: the training is that of images in memory, and files that hold no images are refused."""

import numpy as np
import pytest

import pushforward as pf
from pushforward import vae as pv
from pushforward.vae.stored import stored_images
from vae_cases import KEY, images, small


def test_a_training_from_disk_is_that_in_memory(tmp_path):
    pixels = (255 * images(60)).astype(np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    losses = []
    for x in (pixels, tmp_path / "images.npy", np.load(tmp_path / "images.npy", mmap_mode="r")):
        _, history = pf.fit_vae(x, key=KEY, vae=small(), batch_size=20, max_epochs=2)
        losses.append([*history.losses, *history.series("loss")])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-6)


def test_gray_levels_on_disk_are_drawn_and_checked(tmp_path):
    np.save(tmp_path / "images.npy", 0.5 * images(30))
    with pytest.raises(ValueError, match="Bernoulli.*between"):
        pf.fit_vae(tmp_path / "images.npy", key=KEY, vae=small())
    stored = stored_images(tmp_path / "images.npy")
    memory, disk = (pv.NegativeBound(x, binarize=True, num_evaluation_samples=50) for x in (0.5 * images(30), stored))
    np.testing.assert_allclose(*(bound.evaluate(small(), KEY) for bound in (memory, disk)), rtol=0.05)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((5, 3, 3), 2.0), r"pixels must lie in \[0, 1\]"),
        (np.full((5, 3, 3), np.nan), "45 pixels that are NaN"),
        (np.zeros(5), r"shape \(n, \*shape\)"),
        (np.array([["a"]]), "array of numbers"),
        (None, "there is no file"),
    ],
)
def test_files_without_images_are_refused(values, message, tmp_path):
    if values is not None:
        np.save(tmp_path / "images.npy", values)
    with pytest.raises(ValueError, match=message):
        stored_images(tmp_path / "images.npy")
