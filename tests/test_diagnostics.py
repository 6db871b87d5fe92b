import math

import arviz
import numpy as np
import pytest
from scipy import stats

from pushforward.posterior.diagnostics import decide_verdict, diagnose
from pushforward.posterior.pareto import fit_generalized_pareto, pareto_smooth


def gaussian_log_weights(shift, scale, num=100_000, seed=0):
    """log p - log q for p = N(0, 1), q = N(shift, scale^2); the evidence is 0."""
    u = np.random.default_rng(seed).normal(shift, scale, num)
    return stats.norm.logpdf(u) - stats.norm.logpdf(u, shift, scale)


@pytest.mark.skipif(not hasattr(arviz, "psislw"), reason="this ArviZ has no psislw")
@pytest.mark.parametrize("scale", [0.6, 0.8, 1.3])
def test_smoothing_agrees_with_arviz(scale):
    log_weights = gaussian_log_weights(0.3, scale, 20_000)
    smoothed, khat = pareto_smooth(log_weights)
    expected, expected_khat = arviz.psislw(log_weights.copy())
    assert khat == pytest.approx(float(expected_khat), abs=1e-6)
    np.testing.assert_allclose(smoothed, expected, atol=1e-6)


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.7, 1.2])
def test_pareto_shape_is_recovered(shape):
    excess = np.sort(stats.genpareto.rvs(shape, scale=2.0, size=20_000, random_state=1))
    found, scale = fit_generalized_pareto(excess)
    # The asymptotic standard error of the shape is (1 + k) / sqrt(n).
    assert abs(found - shape) < 5 * (1 + abs(shape)) / math.sqrt(20_000)
    assert scale == pytest.approx(2.0, rel=0.1)


def test_numbers_of_a_known_gaussian_pair():
    shift, scale = 0.3, 1.2
    d = diagnose(gaussian_log_weights(shift, scale))
    divergence = 0.5 * (scale**2 + shift**2 - 1) - math.log(scale)
    assert abs(d.elbo + divergence) < 5 * d.elbo_se
    assert abs(d.log_evidence) < 5 * d.log_evidence_se
    assert d.gap == pytest.approx(divergence, abs=5 * (d.elbo_se + d.log_evidence_se))
    # q wider than p: the weights are bounded.
    assert d.khat < 0.2


def test_exact_fit_is_good_whatever_the_evidence():
    d = diagnose(np.full(10_000, -1234.5))
    assert d.verdict == "good"
    assert d.log_evidence == pytest.approx(-1234.5)
    assert d.ess_fraction == pytest.approx(1.0)
    assert d.khat == 0.0


@pytest.mark.parametrize("amplitude", [1e-15, 1e-12, 1e-8, 1e-4])
def test_nearly_exact_fits_are_good(amplitude):
    d = diagnose(amplitude * np.random.default_rng(0).normal(size=10_000))
    assert d.verdict == "good"
    assert math.isfinite(d.khat)


@pytest.mark.parametrize(
    ("shift", "scale", "verdict"),
    [(0.05, 1.02, "good"), (0.5, 1.1, "reweight"), (0.0, 0.75, "reweight"), (8.0, 1.0, "unreliable")],
)
def test_verdict(shift, scale, verdict):
    assert diagnose(gaussian_log_weights(shift, scale)).verdict == verdict


def test_far_draws_that_hardly_count_are_seen_in_means():
    log_weights = gaussian_log_weights(0.0, 1.0)
    draws = np.random.default_rng(1).normal(size=(len(log_weights), 3))
    assert diagnose(log_weights, draws=draws).verdict == "good"
    draws[7, 1], log_weights[7] = 1e6, -300.0
    assert diagnose(log_weights).verdict == "good"
    d = diagnose(log_weights, draws=draws)
    assert d.verdict == "reweight"
    assert "mean is" in d.reasons[0]
    draws[7, 1] = np.inf
    assert diagnose(log_weights, draws=draws).verdict == "reweight"


def test_means_of_few_good_draws_differ_by_chance():
    judged = {"gap": 0.01, "ess": 93.0, "ess_fraction": 0.93, "khat": 0.2}
    assert decide_verdict(**judged, shift=0.15)[0] == "good"
    verdict, reasons = decide_verdict(**judged, shift=0.5)
    assert verdict == "unreliable" and "mean is 0.5" in reasons[0]


def test_heavy_weights_are_unreliable():
    log_weights = np.log(stats.pareto.rvs(0.8, size=100_000, random_state=0))
    d = diagnose(log_weights)
    assert d.khat > 0.9
    assert d.verdict == "unreliable"


def test_large_khat_does_not_fail_a_nearly_exact_fit():
    assert decide_verdict(gap=0.005, ess=98_000, ess_fraction=0.98, khat=1.1)[0] == "good"


def test_small_khat_does_not_pass_a_bad_fit():
    assert decide_verdict(gap=24.0, ess=300, ess_fraction=0.003, khat=0.45)[0] == "unreliable"


def test_zero_density_is_weight_zero():
    log_weights = gaussian_log_weights(0.0, 1.0)
    log_weights[::2] = -np.inf
    d = diagnose(log_weights)
    assert d.log_evidence == pytest.approx(-math.log(2))
    assert d.ess_fraction == pytest.approx(0.5)
    assert d.verdict != "good"


def test_nan_is_reported():
    log_weights = gaussian_log_weights(0.0, 1.0)
    log_weights[:100] = np.nan
    d = diagnose(log_weights)
    assert d.verdict == "unreliable"
    assert "NaN" in d.reasons[0]


def test_nothing_finite():
    d = diagnose(np.full(1000, -np.inf))
    assert d.verdict == "unreliable"
    assert d.ess == 0


def test_missed_mass_is_unreliable():
    d = diagnose(gaussian_log_weights(0.0, 1.0), missed_mass=0.4)
    assert d.verdict == "unreliable"
    assert "40%" in d.reasons[0]
