"""When a fit is good enough to end its training."""

import dataclasses
import math

import numpy as np
import pytest

from pushforward.posterior.enough import gap_of_most, good_gap, is_another_round_too_much, is_exact
from pushforward.posterior.verdict.diagnostics import diagnose


def diagnostics(gap, ess_fraction, khat=0.0):
    found = diagnose(np.zeros(1000))
    return dataclasses.replace(found, elbo=-gap, log_evidence=0.0, ess_fraction=ess_fraction, khat=khat)


@pytest.mark.parametrize(
    ("dim", "index", "gain", "gap", "ess_fraction", "enough"),
    [
        (100, 1, 0.2, 0.09, 0.7, True),  # near, and resampling corrects it
        (100, 0, 0.2, 0.09, 0.7, False),
        (100, 1, 0.2, 0.09, 0.4, False),
        (64, 1, 0.2, 0.09, 0.7, False),
        (100, 1, 0.05, 0.13, 0.7, True),  # half of the gain leaves too much
        (100, 0, 0.05, 0.13, 0.7, False),  # the second round gains more
        (100, 1, 0.2, 0.12, 0.7, False),
        (100, 1, 0.1, 0.4, 0.2, False),  # resampling does not correct it
        (100, 1, 0.05, 0.4, 0.2, True),  # but the gain is a plateau
        (100, 1, math.inf, 0.4, 0.9, False),  # after a divergence
        (31, 1, 0.01, 0.13, 0.7, False),
        (32, 1, 0.01, 0.13, 0.7, True),
        (32, 1, 0.05, 0.4, 0.2, True),
        (600, 0, 2.0, 0.9, 0.2, True),  # a thousand effective draws
        (600, 0, 2.0, 0.9, 0.05, False),
    ],
)
def test_from_32_dimensions_on_no_round_follows_that_gains_little(dim, index, gain, gap, ess_fraction, enough):
    assert is_another_round_too_much(diagnostics(gap, ess_fraction), dim, index, gain) == enough


def test_weights_with_a_heavy_tail_do_not_correct_draws():
    assert not is_another_round_too_much(diagnostics(0.09, 0.7, khat=0.6), 100, 1, 0.2)
    assert not is_another_round_too_much(diagnostics(0.9, 0.2, khat=0.6), 600, 0, 2.0)


def test_in_few_dimensions_each_round_allows_three_times_the_divergence():
    assert [good_gap(10, index) for index in range(3)] == pytest.approx([0.0025, 0.0075, 0.0225])
    assert good_gap(100, 0) == good_gap(100, 1) == 0.015


def test_exact():
    assert is_exact(diagnostics(0.001, 0.999))
    assert not is_exact(diagnostics(0.001, 0.9))
    assert not is_exact(diagnostics(0.01, 0.999))


def test_a_few_large_weights_leave_nothing_to_gain():
    exact = np.zeros(1000)
    assert gap_of_most(exact) == pytest.approx(0.0, abs=1e-12)
    exact[:5], exact[5:9] = 12.0, -np.inf
    assert gap_of_most(exact) == pytest.approx(0.0, abs=1e-12) and diagnose(exact).gap > 5
    # Half of the variance, as of all draws, where all of them differ.
    assert gap_of_most(0.5 * np.random.default_rng(0).normal(size=20_000)) == pytest.approx(0.125, rel=0.1)
    assert gap_of_most(np.full(10, -np.inf)) == gap_of_most(np.repeat([0.0, -np.inf], 50)) == math.inf
