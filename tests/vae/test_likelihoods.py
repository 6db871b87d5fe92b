"""Likelihoods by hand."""

import jax.numpy as jnp
import numpy as np
import scipy.stats

from pushforward import vae as pv
from vae_cases import KEY, SHAPE


def test_likelihoods_by_hand():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(0, 4, SHAPE) / 3)
    logits = jnp.asarray(rng.normal(size=(4, *SHAPE)))
    log_p = logits - scipy.special.logsumexp(logits, axis=0)
    expected = sum(log_p[round(3 * float(x[i, j])), i, j] for i in range(3) for j in range(4))
    four = pv.Categorical(4)
    np.testing.assert_allclose(four.log_prob(logits, x), expected)
    np.testing.assert_allclose(four.image(logits), sum(np.exp(log_p[k]) * k / 3 for k in range(4)))
    four.check(np.asarray(four.draw(KEY, logits)))

    binary, p = jnp.round(x), 1 / (1 + np.exp(-logits[0]))
    expected = np.log(np.where(binary == 1, p, 1 - p)).sum()
    np.testing.assert_allclose(pv.Bernoulli().log_prob(logits[:1], binary), expected)
    np.testing.assert_allclose(pv.Bernoulli().image(logits[:1]), p)

    scale = 0.02 + (logits[1] + np.sqrt(logits[1] ** 2 + 4)) / 2
    expected = scipy.stats.norm.logpdf(x, logits[0], scale).sum()
    np.testing.assert_allclose(pv.Gaussian(min_scale=0.02).log_prob(logits[:2], x), expected)
    expected = scipy.stats.norm.logpdf(x, logits[0], 0.3).sum()
    np.testing.assert_allclose(pv.Gaussian(0.3).log_prob(logits[:1], x), expected)


def test_fields_of_version_0_1_0():
    fields = pv.Gaussian.upgraded_fields({"scale": None, "smallest": 0.02})
    assert pv.Gaussian(**fields) == pv.Gaussian(min_scale=0.02)
