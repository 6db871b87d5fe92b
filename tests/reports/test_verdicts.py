"""Verdicts in words: what each result is colored, and which next steps are given."""

from types import SimpleNamespace

import numpy as np
import pytest

from pushforward.posterior.verdict.diagnostics import diagnose, unassessed
from pushforward.reports import verdicts

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
    ("gap", "active", "level"), [(1.0, 3, "good"), (30.0, 3, "caution"), (np.nan, 3, "caution"), (0, 0, "bad")]
)
def test_vaes(gap, active, level):
    assert verdicts.of_vae(SimpleNamespace(gap=gap, nll=100.0, active_units=active)).level == level
