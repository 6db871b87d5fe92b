"""Pictures of a VAE."""

import jax
import numpy as np
import pytest

from pushforward import vae as pv
from pushforward.reports.vae import image_grid
from pushforward.vae.pictures import interpolations, traversals
from vae_cases import KEY, SHAPE, images, small


def test_pictures():
    vae, x = small(), images(5)
    draws = vae.sample(KEY, (2, 3))
    assert draws.shape == (2, 3, *SHAPE)
    assert set(np.unique(draws)) <= {0.0, 1.0}

    @jax.eval_shape
    def shapes():
        return {
            "sample": vae.sample(KEY, (4,), expected=True),
            "reconstruct": vae.reconstruct(x, KEY),
            "infer": vae.infer(x, KEY, (3,)),
            "traversals": traversals(vae, x[0], KEY, steps=6),
            "interpolations": interpolations(vae, x[:2], x[2:4], KEY, steps=4),
        }

    assert {name: a.shape for name, a in shapes.items()} == {
        "sample": (4, *SHAPE),
        "reconstruct": x.shape,
        "infer": (3, 5, 2),
        "traversals": (2, 6, *SHAPE),
        "interpolations": (2, 4, *SHAPE),
    }
    grid = image_grid(np.ones((2, 3, *SHAPE)))
    assert grid.shape == (2 * 4 + 1, 3 * 5 + 1)
    assert grid.sum() == 6 * 12


def test_summary_figure_and_page(tmp_path):
    """The numbers on the page are those of the evaluation that `report` returns."""
    vae, x = small(), images(6)
    summary = vae.summary()
    assert summary["shape of an image"] == SHAPE
    assert summary["parameters of the encoder"] == 8 * 12 + 8 + 5 * 8 + 5
    assert "latent dimensions" in str(summary)
    assert vae._repr_html_() == summary._repr_html_()
    assert len(vae.plot(x, key=KEY).axes) == 4
    assert "interpolations" not in pv.pictures.all_pictures(vae, x[:1], KEY)
    evaluation = vae.report(tmp_path / "page.html", x, key=KEY, num_samples=20)
    assert evaluation == pv.evaluate(vae, x, key=KEY, num_samples=20)
    page = (tmp_path / "page.html").read_text()
    assert f"<td>NLL, 20 draws<td>{evaluation.nll:.3f}" in page
    assert "<td>test images<td>6" in page
    assert page.count("data:image/png") == 4


@pytest.mark.parametrize("shape", [(6,), (3, 2, 2, 2)], ids=str)
def test_images_of_other_shapes_have_no_pictures(shape, tmp_path):
    vae = pv.build(shape, key=KEY, dim=2, posterior="gaussian", prior="normal", widths=(4,))
    x = np.zeros((3, *shape))
    assert pv.pictures.all_pictures(vae, x, KEY) == {}
    with pytest.raises(ValueError, match="no pictures of images with one axis"):
        vae.plot(x, key=KEY)
    assert vae.report(tmp_path / "page.html", x, key=KEY, num_samples=2).num_samples == 2
    page = (tmp_path / "page.html").read_text()
    assert "There are no pictures of images with one axis" in page and "data:image/png" not in page
