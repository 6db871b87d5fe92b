"""Images from files."""

import jax
import numpy as np
import pytest

from pushforward.vae.data import check_images, load_images, with_test_images, without_bytes
from vae_cases import images


def test_eight_bits_are_divided_and_masks_are_not(tmp_path):
    mask = images().astype(np.uint8)
    np.savez(tmp_path / "mask.npz", train=mask, test=mask, labels=np.full(3, 9, np.uint8))
    np.savez(tmp_path / "grey.npz", train=255 * mask, test=mask)
    np.testing.assert_array_equal(load_images(tmp_path / "mask.npz")["train"], mask)
    grey = load_images(tmp_path / "grey.npz")
    assert (grey["train"].max(), grey["test"].max()) == (1, np.float32(1 / 255))
    np.save(tmp_path / "grey.npy", 255 * mask)
    np.testing.assert_array_equal(load_images(tmp_path / "grey.npy")["train"], grey["train"])
    np.testing.assert_array_equal(check_images(255 * mask), check_images(mask))
    np.testing.assert_array_equal(check_images([*(255 * mask)]), check_images(mask))
    with pytest.raises(ValueError, match="they are complex"):
        check_images(mask + 0j)
    with pytest.raises(ValueError, match="outside of compiled functions"):
        jax.jit(without_bytes)(255 * mask)


@pytest.mark.parametrize(
    ("name", "match"), [("", "it is a folder; read the pictures"), ("x.png", "of another format; read")]
)
def test_pictures_are_refused_with_advice(name, match, tmp_path):
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=match):
        load_images(tmp_path / name)


def test_the_smallest_number_of_images_that_leaves_test_images():
    found = with_test_images({"train": images(6)}, 0.1, 0)
    assert len(found["train"]) == 5 and len(found["test"]) == 1
    with pytest.raises(ValueError, match="5 images, but at least 6 are needed"):
        with_test_images({"train": images(5)}, 0.1, 0)
