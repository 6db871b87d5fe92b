"""Verdicts in words: what each result is colored, and which next steps are given."""

from types import SimpleNamespace

import numpy as np
import pytest

from pushforward.posterior.verdict.diagnostics import GOOD_ESS_FRACTION, GOOD_GAP, MAX_SHIFT, diagnose, unassessed
from pushforward.posterior.verdict.examination import MAX_SD_ERROR
from pushforward.posterior.verdict.pareto import MAX_KHAT
from pushforward.reports import posterior, verdicts

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("diagnostics", "level", "words"),
    [
        (diagnose(1e-3 * RNG.normal(size=5000)), "good", "can use these draws"),
        (diagnose(0.5 * RNG.normal(size=5000)), "caution", "after weighting"),
        (diagnose(5 * RNG.normal(size=5000)), "bad", "non-centered"),
        (diagnose(1e-3 * RNG.normal(size=5000), missed_mass=0.4), "bad", "another region"),
        (diagnose(np.full(200, -np.inf)), "bad", "log-density"),
        (unassessed(), "bad", "Fit again"),
    ],
)
def test_posteriors(diagnostics, level, words):
    verdict = verdicts.of_posterior(diagnostics)
    assert verdict.level == level and words in str(verdict) and verdict.steps and verdict.meaning
    assert (verdict.level == "good") == (diagnostics.verdict == "good")


def test_next_steps_in_the_terminal_are_commands():
    for scale, words in ((1e-3, "pushforward sample posterior.flow"), (0.5, "--resample"), (5, "--budget")):
        diagnostics = diagnose(scale * np.random.default_rng(0).normal(size=5000))
        assert words in str(verdicts.of_posterior(diagnostics, in_terminal=True))
        assert words not in str(verdicts.of_posterior(diagnostics))


def test_the_limits_in_words_are_those_of_the_verdict():
    meaning = verdicts.of_posterior(diagnose(1e-3 * RNG.normal(size=5000))).meaning
    assert f"means that are off by {MAX_SHIFT:g} standard deviations" in meaning
    assert f"off by {100 * MAX_SD_ERROR:g} %" in meaning
    assert f"below {GOOD_GAP:g} for a good fit" in meaning
    for in_terminal, words in ((False, "predictive=True"), (True, "--predictive")):
        assert words in str(verdicts.of_posterior(diagnose(1e-3 * RNG.normal(size=5000)), in_terminal=in_terminal))


@pytest.mark.parametrize(
    ("verdict", "khat", "share", "words"),
    [
        ("good", 0.69, 0.95, "is low"),
        ("good", 0.71, 0.916, "here it is 91.6% of the draws"),
        ("good", 0.9, 0.3, "little of the evidence"),
        ("reweight", 0.9, 0.8, "is low"),
    ],
)
def test_a_large_khat_beside_a_good_verdict_is_explained(verdict, khat, share, words):
    values = dict.fromkeys(("elbo", "elbo_se", "log_evidence", "log_evidence_se", "ess"), 1e-5)
    found = SimpleNamespace(**values, khat=khat, ess_fraction=share, num_draws=100, verdict=verdict)
    rows = {name: (value, meaning) for name, value, meaning in posterior.diagnostics_table(found).rows}
    assert rows["k-hat"][1].endswith(words) or words in rows["k-hat"][1].split(";")[-1]
    assert rows["log evidence"][0].endswith("± 1e-05 nats")
    assert f"above {MAX_KHAT:g}" in rows["k-hat"][1] and f"below {GOOD_GAP:g}" in rows["KL divergence"][1]
    assert posterior.HARMLESS_KHAT == MAX_KHAT and posterior.HARMLESS_ESS_FRACTION == GOOD_ESS_FRACTION


def test_chains():
    assert (
        verdicts.of_chains("good", ("a",)).level == "good" and verdicts.of_chains("unreliable", ("a",)).level == "bad"
    )


@pytest.mark.parametrize(
    ("scores", "wrong", "warnings", "level"),
    [
        ({"flow": 1.0, "Gaussian": 0.0}, [], (), "good"),
        ({"flow": 1.0, "Gaussian": 1.1}, [], (), "good"),  # within the noise
        ({"flow": 1.0, "Gaussian": 2.0}, [], (), "bad"),
        ({"flow": np.nan, "Gaussian": 0.0}, [], (), "bad"),
        ({"flow": 1.0, "Gaussian": 0.0}, ["x"], (), "caution"),
        ({"flow": 1.0}, [], ("interrupted",), "caution"),
        ({"flow": -np.inf}, [], (), "bad"),
    ],
)
def test_densities(scores, wrong, warnings, level):
    made = {name: SimpleNamespace(mean=mean, standard_error=0.1) for name, mean in scores.items()}
    evaluation = SimpleNamespace(scores=made, miscalibrated=wrong, num_rows=50, rows_label="test rows")
    verdict = verdicts.of_density(evaluation, warnings)
    assert (
        verdict.level == level and "only 50 test rows" in str(verdict) and all(name in str(verdict) for name in wrong)
    )


@pytest.mark.parametrize(
    ("changes", "level", "word"),
    [
        ({}, "good", "consistent"),
        ({"gap": 0.05, "gap_se": 0.3}, "good", "consistent"),
        ({"gap": 30.0}, "caution", "loose"),
        ({"gap": 30.0, "num_samples": 1}, "caution", "loose"),
        ({"num_samples": 1}, "caution", "unclear"),
        ({"gap": -1.6, "num_samples": 1}, "caution", "unclear"),
        ({"gap": -30.0}, "caution", "unclear"),
        ({"gap_se": 2.0}, "caution", "unclear"),
        ({"gap": np.nan}, "bad", "not finite"),
        ({"gap": np.inf}, "bad", "not finite"),
        ({"active_units": 0}, "bad", "unused"),
        ({"active_units": None, "gap_se": np.nan}, "caution", "unclear"),
    ],
    ids=str,
)
def test_vaes(changes, level, word):
    evaluation = SimpleNamespace(**{"gap": 1.0, "gap_se": 0.1, "num_samples": 500, "active_units": 3} | changes)
    verdict = verdicts.of_vae(evaluation)
    assert (verdict.level, verdict.word) == (level, word)
    assert ("nats per image below the ELBO" in str(verdict)) == (evaluation.gap < 0)
