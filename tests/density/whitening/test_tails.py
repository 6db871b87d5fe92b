"""Tail transforms are fitted to heavy tails only."""

import numpy as np
import pytest

from pushforward.density.whitening.tails import condition_scaling, fit_tail_transforms, standard_deviations

RNG = np.random.default_rng(0)


def test_only_heavy_tails_are_transformed():
    z = np.stack([RNG.standard_cauchy(4000), RNG.normal(size=4000), RNG.uniform(size=4000), np.ones(4000)], axis=1)
    transforms = fit_tail_transforms(z, np.ones(4000))
    assert transforms.tails[0] > 2 and (transforms.tails[1:] == 1).all() and transforms.any
    y = transforms.inverse(z)
    np.testing.assert_array_equal(y[:, 1:], z[:, 1:])
    again = transforms.locs + transforms.scales * np.sinh(transforms.tails * np.arcsinh(y))
    np.testing.assert_allclose(again[:, 0], z[:, 0], rtol=1e-9)
    assert not transforms.where(np.arange(4) > 0).any


def test_log_likelihood_is_that_of_the_transformed_gaussian():
    """Up to a constant: the log-density of y, and the logarithm of the derivative of y by z."""
    z = RNG.standard_cauchy((500, 1))
    transforms = fit_tail_transforms(z, np.ones(500))
    y, step = transforms.inverse(z), 1e-6
    derivative = (transforms.inverse(z + step) - transforms.inverse(z - step)) / (2 * step)
    expected = np.log(derivative).mean() - np.log(y.std())
    assert transforms.log_likelihoods[0] == pytest.approx(expected, abs=1e-5)


def test_weights_are_numbers_of_copies():
    z, counts = RNG.standard_cauchy((300, 2)), RNG.integers(0, 4, 300)
    weighted, copied = (
        fit_tail_transforms(z, counts.astype(float)),
        fit_tail_transforms(np.repeat(z, counts, axis=0), np.ones(counts.sum())),
    )
    for ours, theirs in zip(weighted, copied, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_scaling_of_a_condition():
    condition = np.stack([3 + 2 * RNG.normal(size=2000), RNG.standard_cauchy(2000), RNG.uniform(size=2000) < 0.01], 1)
    scaling = condition_scaling(condition, np.ones(2000))
    assert scaling.arsinh is not None and scaling.arsinh.tolist() == [False, True, True]
    np.testing.assert_allclose(scaling.loc, [3, 0, 0.01], atol=0.1)
    assert scaling.scale[0] == pytest.approx(2, rel=0.1)
    assert condition_scaling(condition[:, :1], np.ones(2000)).arsinh is None


@pytest.mark.parametrize("unit", [1e-300, 1.0, 1e300])
def test_standard_deviations_of_any_unit(unit):
    z = RNG.normal(size=(100, 2))
    np.testing.assert_allclose(standard_deviations(z * unit, np.full(100, 0.01)), z.std(0) * unit, rtol=1e-9)
