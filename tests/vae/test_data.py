"""Images from files."""

import numpy as np

from pushforward.vae.data import load_images
from vae_cases import images


def test_eight_bits_are_divided_and_masks_are_not(tmp_path):
    mask = images().astype(np.uint8)
    np.savez(tmp_path / "mask.npz", train=mask, test=mask, labels=np.full(3, 9, np.uint8))
    np.savez(tmp_path / "grey.npz", train=255 * mask, test=mask)
    np.testing.assert_array_equal(load_images(tmp_path / "mask.npz")["train"], mask)
    grey = load_images(tmp_path / "grey.npz")
    assert (grey["train"].max(), grey["test"].max()) == (1, np.float32(1 / 255))
