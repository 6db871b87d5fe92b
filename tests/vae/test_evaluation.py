"""Evaluation of a VAE."""

import numpy as np
import pytest

import pushforward as pf
from pushforward import bijections as bj, vae as pv
from pushforward.reports.vae import evaluation_rows
from pushforward.reports.verdicts import of_vae
from pushforward.vae import evaluation
from vae_cases import KEY, far, images, small


def test_evaluation_of_a_collapsed_model_and_of_other_images():
    """No unit is active where the posterior is the prior; images that training refuses are refused."""
    assert pv.evaluate(small(), images(200), key=KEY, num_samples=2, elbo_samples=2).active_units == 0
    for score in (pv.evaluate, pv.kl_split):
        with pytest.raises(ValueError, match=r"Bernoulli.*between"):
            score(small(), 0.5 * images(), key=KEY)
        with pytest.raises(ValueError, match="Divide"):
            score(small(), 255 * images(), key=KEY)


def rescaled(vae, scale):
    """The same model, whose latent coordinates are multiplied by a number."""

    def times(flow):
        return pf.Flow(flow.base, bj.Chain([flow.bijection, bj.Elementwise(bj.Affine(0.0, scale), vae.dim)]))

    return pf.VAE(vae.encoder, lambda u: vae.decoder(u / scale), times(vae.posterior), times(vae.prior), vae.likelihood)


def test_active_units_do_not_depend_on_the_scale_of_latent_coordinates():
    found = [
        pv.evaluate(rescaled(far(small(), 1.0), scale), images(100), key=KEY, num_samples=2, elbo_samples=2)
        for scale in (1.0, 0.02, 50.0)
    ]
    assert found[0].active_units == found[1].active_units == found[2].active_units > 0


def test_one_image_has_no_standard_errors_and_no_active_units():
    found = pv.evaluate(small(), images(1), key=KEY, num_samples=200)
    assert found.active_units is None and np.isnan([found.elbo_se, found.nll_se, found.gap_se]).all()
    rows = evaluation_rows(found)
    assert rows[0][2] == rows[1][2] == "" and rows[4] == ("active latent coordinates", "", "")
    assert of_vae(found).word == "unclear"


def test_memory_is_bounded(monkeypatch):
    assert evaluation.max_chunk_size(500, 4, small()) == 500
    monkeypatch.setattr(evaluation, "MAX_OUTPUTS", 7 * 4 * 12 + 1)
    assert [evaluation.max_chunk_size(500, outputs_per_item, small()) for outputs_per_item in (4, 1000)] == [7, 1]


@pytest.mark.parametrize(
    ("score", "options", "error", "message"),
    [
        (pv.kl_split, {"num_images": 0}, ValueError, "num_images must be a whole number between 1 and"),
        (pv.kl_split, {"num_images": 2.5}, TypeError, "num_images must be a whole number"),
        (pv.evaluate, {"batch_size": -1}, ValueError, "batch_size must be a whole number between 1 and"),
        (pv.evaluate, {"key": 0}, TypeError, "key must be a random key"),
        (pv.evaluate, {"vae": 3}, TypeError, "vae must be a VAE, but is 3, in evaluate"),
    ],
)
def test_arguments_of_evaluations(score, options, error, message):
    with pytest.raises(error, match=message):
        score(**{"vae": small(), "x": images(), "key": KEY} | options)
