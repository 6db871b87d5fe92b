"""Ridge regression on the condition, and heavy tails that are not those of the condition."""

import numpy as np
from sklearn.linear_model import RidgeCV

from pushforward.density.whitening.regression import (
    LinearRegression,
    Residuals,
    fit_tail_transforms_given_condition,
)


def test_tails_if_a_column_of_the_condition_is_constant():
    """The rows may be a part of a file in which a rare category does not occur."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.standard_cauchy(500), np.zeros(500), rng.normal(size=500)])
    assert fit_tail_transforms_given_condition(rows, 1, np.ones(500)).tails[0] > 1
    rows[:, 2] = rows[:, 0]
    assert fit_tail_transforms_given_condition(rows, 1, np.ones(500)).tails[0] == 1


def standardized(rows):
    return (rows - rows.mean(0)) / rows.std(0)


def test_least_squares():
    c = standardized(np.random.default_rng(0).normal(size=(200, 3)))
    z = standardized(c @ np.ones((3, 2)) + np.random.default_rng(1).normal(size=(200, 2)))
    regression = LinearRegression(np.corrcoef(z.T, c.T), 2, 200)
    coefficients, covariance = regression.least_squares()
    expected = np.linalg.lstsq(c, z)[0].T
    np.testing.assert_allclose(coefficients, expected, rtol=1e-9)
    np.testing.assert_allclose(covariance, np.cov((z - c @ expected.T).T, ddof=0), atol=1e-12)
    assert LinearRegression(np.corrcoef(z.T, c.T), 2, 5).least_squares() is None


def test_ridge_is_chosen_as_by_cross_validation():
    """With many directions and few rows; scikit-learn leaves out one row at a time, which is nearly the same."""
    rng = np.random.default_rng(0)
    c = standardized(rng.normal(size=(100, 30)))
    z = standardized(c[:, :1] + rng.normal(size=(100, 1)))
    coefficients, covariance = LinearRegression(np.corrcoef(z.T, c.T), 1, 100).ridge()
    alphas = 100 * 10.0 ** np.arange(-6, 3.5, 0.5)
    expected = RidgeCV(alphas, fit_intercept=False).fit(c, z[:, 0])
    np.testing.assert_allclose(coefficients[0], expected.coef_, atol=0.05)
    # The variance is that of new rows: larger than that of the residuals.
    joint = np.hstack([z, c])
    residuals = Residuals.fit(np.zeros(31), np.ones(31), coefficients, covariance, joint, np.ones(100))
    assert residuals.inflation > 1.05
    np.testing.assert_allclose(residuals(joint).std(), np.sqrt(covariance[0, 0]), rtol=0.05)
