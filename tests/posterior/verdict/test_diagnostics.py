import math

import numpy as np
import pytest
from scipy import stats

from posterior_cases import gaussian_log_weights
from pushforward.posterior.verdict.diagnostics import decide_verdict, diagnose, unassessed
from pushforward.posterior.verdict.examination import Examination


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
    assert "the mean of the draws is" in d.reasons[0]
    draws[7, 1] = np.inf
    assert diagnose(log_weights, draws=draws).verdict == "reweight"


def test_a_wrong_standard_deviation_of_one_coordinate_is_seen():
    """One coordinate's standard deviation is wrong; what an examination says replaces it, and chance does not count."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(50_000, 3))

    def log_weights(scale, num):
        return stats.norm.logpdf(draws[:num, 1], scale=scale) - stats.norm.logpdf(draws[:num, 1])

    d = diagnose(log_weights(1.1, 50_000), draws=draws)
    assert d.verdict == "reweight" and d.gap < 0.03 and "a standard deviation is off by 9" in d.reasons[0]
    assert diagnose(log_weights(1.04, 50_000), draws=draws).verdict == "good"
    assert diagnose(log_weights(1.1, 400), draws=draws[:400]).verdict == "good"
    assert diagnose(log_weights(1.1, 50_000), draws=draws, examination=Examination(complete=True)).verdict == "good"
    # In a direction of infinite values there is no standard deviation, only a shift.
    draws[7, 0] = np.inf
    assert diagnose(log_weights(1.0, 50_000), draws=draws).verdict == "reweight"


def test_means_of_few_good_draws_differ_by_chance():
    numbers = {"gap": 0.01, "ess": 93.0, "ess_fraction": 0.93, "khat": 0.2}
    assert decide_verdict(**numbers, shift=0.15)[0] == "good"
    verdict, reasons = decide_verdict(**numbers, shift=0.5)
    assert verdict == "unreliable" and "mean of the draws is 0.5" in reasons[0]


def test_heavy_weights_are_unreliable():
    log_weights = np.log(stats.pareto.rvs(0.8, size=100_000, random_state=0))
    d = diagnose(log_weights)
    assert d.khat > 0.9
    assert d.verdict == "unreliable"


def test_large_khat_does_not_fail_a_nearly_exact_fit():
    assert decide_verdict(gap=0.005, ess=98_000, ess_fraction=0.98, khat=1.1)[0] == "good"


@pytest.mark.parametrize(
    ("weight", "examination", "verdict"),
    [
        (443.0, Examination(complete=True), "good"),
        (443.0, Examination(), "unreliable"),  # its tails were not examined
        (443.0, None, "unreliable"),
        (443.0, Examination(flaws=("a standard deviation is off by 7%",), complete=True), "unreliable"),
        (3000.0, Examination(complete=True), "unreliable"),  # 3 % of the evidence
    ],
)
def test_one_large_weight_is_little_missed_evidence(weight, examination, verdict):
    heavy = np.minimum(3e-4 * stats.pareto.rvs(0.8, size=100_000, random_state=0), 5.0)
    heavy[7] = weight
    d = diagnose(np.log1p(heavy), examination=examination)
    assert d.khat > 0.7 and d.ess_fraction < 0.4 and d.elbo < 0.01
    assert d.verdict == verdict
    assert any("1 of the draws, with 0.4% of the evidence" in reason for reason in d.reasons) == (verdict == "good")


def test_small_khat_does_not_pass_a_bad_fit():
    assert decide_verdict(gap=24.0, ess=300, ess_fraction=0.003, khat=0.45)[0] == "unreliable"


def test_zero_density_is_weight_zero():
    log_weights = gaussian_log_weights(0.0, 1.0)
    log_weights[::2] = -np.inf
    d = diagnose(log_weights)
    assert d.log_evidence == pytest.approx(-math.log(2))
    assert d.ess_fraction == pytest.approx(0.5)
    assert d.verdict != "good"


def test_notebooks_show_the_verdict_in_words():
    page = diagnose(np.zeros(200), notes=("<b>",))._repr_html_()
    assert "You can use these draws." in page and "&lt;b&gt;" in page and "<td>k-hat" in page


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


@pytest.mark.parametrize("constant", [-1e8, 1e8])
def test_rounding_noise_is_not_taken_for_weights(constant):
    """In float32 numbers of that size are 8 nats apart; in float64 they are not."""
    log_weights = constant + 0.1 * np.random.default_rng(0).normal(size=10_000)
    d = diagnose(log_weights.astype(np.float32))
    assert d.verdict == "unreliable" and "8 nats apart" in d.reasons[0]
    assert diagnose(log_weights).verdict == "good"


def test_standard_errors_include_the_rounding_of_a_constant():
    """At one million, numbers of float32 are 1 / 16 apart, so that all draws have nearly the same error."""
    log_weights = 1e6 + 0.001 * np.random.default_rng(0).normal(size=10_000)
    exact, rounded = diagnose(log_weights), diagnose((log_weights + 0.02).astype(np.float32))
    assert exact.log_evidence_se < 1e-4
    assert abs(rounded.log_evidence - exact.log_evidence) < 2 * rounded.log_evidence_se < 0.1
    assert rounded.elbo_se > 0.03


def test_the_standard_error_of_the_evidence_includes_what_is_missed():
    log_weights = gaussian_log_weights(0.0, 1.0)
    assert diagnose(log_weights, missed_mass=0.15).log_evidence_se == pytest.approx(-np.log(0.85), abs=1e-3)
    assert diagnose(log_weights, missed_mass=1.0).log_evidence_se == np.inf


def test_bad_arguments_are_named():
    log_weights = np.zeros(1000)
    with pytest.raises(ValueError, match="at least 100 numbers.*\\(5,\\)"):
        diagnose(np.zeros(5))
    with pytest.raises(ValueError, match="log_weights must be a vector.*\\(1000, 1\\)"):
        diagnose(log_weights[:, None])
    with pytest.raises(ValueError, match="draws must have the shape \\(1000, dim\\)"):
        diagnose(log_weights, draws=np.zeros((999, 2)))
    for mass in (np.nan, -0.1, 1.5):
        with pytest.raises(ValueError, match="missed_mass must be a number between 0 and 1"):
            diagnose(log_weights, missed_mass=mass)


def test_in_many_dimensions_the_reasons_say_what_the_divergence_means_for_one_coordinate():
    log_weights = gaussian_log_weights(0.5, 1.1)
    rng = np.random.default_rng(1)
    few, many = (diagnose(log_weights, draws=rng.normal(size=(len(log_weights), dim))) for dim in (3, 100))
    assert few.verdict == many.verdict == "reweight"
    assert "all 100 coordinates together" in many.reasons[1]
    assert "coordinates together" not in " ".join(few.reasons)


def test_what_was_not_assessed_is_unreliable_and_claims_nothing():
    found = unassessed(("a note",))
    assert found.verdict == "unreliable" and found.reasons[1] == "a note"
    assert (found.ess, found.ess_fraction, found.num_draws) == (0, 0, 0)
    assert np.isnan([found.elbo, found.elbo_se, found.log_evidence, found.log_evidence_se, found.khat]).all()
