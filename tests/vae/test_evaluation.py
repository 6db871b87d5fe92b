"""Evaluation of a VAE."""

import pytest

from pushforward import vae as pv
from pushforward.vae import evaluation
from vae_cases import KEY, images, small


def test_evaluation_of_a_collapsed_model_and_of_other_images():
    """No unit is active where the posterior is the prior; images that training refuses are refused."""
    assert pv.evaluate(small(), images(200), key=KEY, num_samples=2, elbo_samples=2).active_units == 0
    for score in (pv.evaluate, pv.kl_split):
        with pytest.raises(ValueError, match=r"Bernoulli.*between"):
            score(small(), 0.5 * images(), key=KEY)
        with pytest.raises(ValueError, match="Divide"):
            score(small(), 255 * images(), key=KEY)


def test_memory_is_bounded(monkeypatch):
    assert evaluation.max_chunk_size(500, 4, small()) == 500
    monkeypatch.setattr(evaluation, "MAX_OUTPUTS", 7 * 4 * 12 + 1)
    assert [evaluation.max_chunk_size(500, outputs_per_item, small()) for outputs_per_item in (4, 1000)] == [7, 1]
