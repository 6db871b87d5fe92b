"""Where the channels of images are."""

import jax.numpy as jnp
import numpy as np
import pytest

import pushforward as pf
from pushforward import vae as pv
from pushforward.reports.vae import image_grid
from pushforward.vae.layout import find_channels
from vae_cases import KEY


@pytest.mark.parametrize(
    ("shape", "channels", "found"),
    [
        ((28, 28), None, None),
        ((12,), None, None),
        ((1, 28, 28), None, "first"),
        ((3, 32, 24), None, "first"),
        ((28, 28, 1), None, "last"),
        ((32, 24, 3), None, "last"),
        ((32, 24, 4), None, "last"),
        ((3, 20, 3), "last", "last"),
        ((3, 20, 3), "first", "first"),
        ((8, 8, 2), "last", "last"),
    ],
)
def test_channels(shape, channels, found):
    assert find_channels(shape, channels) == found


@pytest.mark.parametrize(
    ("shape", "channels", "words"),
    [
        ((3, 20, 3), None, "both the first and the last.*give channels"),
        ((8, 8, 2), None, "neither the first nor the last"),
        ((8, 8), "last", "images with three axes"),
        ((8, 8, 3), "middle", '"first" or "last"'),
    ],
)
def test_unclear_channels_are_errors(shape, channels, words):
    with pytest.raises(ValueError, match=words):
        find_channels(shape, channels)


@pytest.mark.parametrize("network", ["dense", "conv"])
@pytest.mark.parametrize("shape", [(6, 5, 3), (3, 6, 5), (6, 5, 1)])
def test_images_keep_their_layout(network, shape):
    widths = (4, 4) if network == "conv" else (8,)
    options = {"posterior": "gaussian", "prior": "normal", "widths": widths, "features": 5}
    vae = pv.build(shape, key=KEY, dim=2, network=network, **options)
    x = jnp.linspace(0, 1, 4 * 90).reshape(4, -1)[:, : np.prod(shape)].reshape(4, *shape)
    assert vae.shape == shape
    assert vae.reconstruct(x, KEY).shape == x.shape
    assert vae.sample(KEY, (2,)).shape == (2, *shape)
    assert vae.summary()["channels of an image"] == ("first" if shape[0] == 3 else "last")
    pictures = pv.pictures.all_pictures(vae, x, KEY)
    grid = image_grid(pictures["reconstructions"])
    assert grid.shape == (2 * 7 + 1, 4 * 6 + 1) + ((3,) if 3 in shape else ())
    # The first picture is the first image, in color.
    color = np.moveaxis(x[0], 0, -1) if shape[0] == 3 else np.squeeze(x[0])
    np.testing.assert_allclose(grid[1:7, 1:6], color, atol=1e-6)


def test_convolutions_of_both_layouts_agree():
    options = {"key": KEY, "channels": (4, 4), "features": 5}
    first, last = pv.conv_pair((3, 6, 5), 2, 2, **options), pv.conv_pair((6, 5, 3), 2, 2, **options)
    x = np.random.default_rng(0).random((3, 6, 5))
    np.testing.assert_allclose(last[0](jnp.moveaxis(x, 0, -1)), first[0](jnp.asarray(x)))
    u = jnp.array([0.3, -1.0])
    np.testing.assert_allclose(last[1](u), np.moveaxis(first[1](u), 1, -1))


def test_training_says_which_layout_it_took(tmp_path):
    """Color images of 8 bits with channels last: the VAE that comes back, also from a file, has their layout."""
    x = np.random.default_rng(0).integers(0, 256, (12, 4, 3, 3)).astype(np.uint8)
    with pytest.raises(ValueError, match="give channels="):
        pf.fit_vae(x.swapaxes(1, 2), key=KEY)
    options = {"posterior": "gaussian", "prior": "normal", "widths": (8,), "features": 5}
    gaussian = pv.Gaussian(0.1)
    vae = pv.build((4, 3, 3), key=KEY, dim=2, likelihood=gaussian, channels="last", **options)
    with pytest.raises(ValueError, match="VAE has channels last"):
        pf.fit_vae(x, key=KEY, vae=vae, channels="first")
    vae, _ = pf.fit_vae(x, key=KEY, vae=vae, max_epochs=1, channels="last")
    vae.save(tmp_path / "model.vae")
    assert pf.load(tmp_path / "model.vae").channels == "last"
    np.testing.assert_allclose(vae.elbo(x, KEY), vae.elbo(x / 255, KEY), rtol=1e-5)
    page = tmp_path / "page.html"
    vae.report(page, x, key=KEY, num_samples=5)
    assert "channels of an image<td>last" in page.read_text()
