"""Ridge regression of the columns on the condition, and its residuals.

It works on correlations, which are accumulated over all rows of a file, chooses a ridge for each column and uses row
weights; the `RidgeCV` of scikit-learn needs all rows in memory.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pushforward.density.whitening.moments import Moments
from pushforward.density.whitening.tails import TailTransforms, fit_tail_transforms, standard_deviations

# Principal directions of the condition with less than this variance are dropped: they are rounding errors.
MIN_VARIANCE = 1e-10
# The ridges that are compared, for a standardized condition. With the last, all coefficients are 0.
RIDGES = (0.0, *10.0 ** np.arange(-6, 3.5, 0.5), math.inf)
# Fits with more effective parameters than this fraction of the rows are not compared: their error estimates are noise.
MAX_PARAMETERS_PER_ROW = 0.5

Square = Float[np.ndarray, "dim dim"]
Coefficients = Float[np.ndarray, "dim cond_dim"]
# The columns of the samples, followed by those of the condition.
Joint = Float[np.ndarray, "n dim_and_cond_dim"]


class LinearRegression:
    """The regression of standardized columns on a standardized condition, in principal directions of the condition.

    Args:
        correlation: the correlation matrix of the columns and the condition together.
        dim: the number of columns; the others are the condition.
        effective_size: the effective sample size.
    """

    def __init__(self, correlation: Square, dim: int, effective_size: float):
        self.effective_size = effective_size
        self.of_columns, self.with_condition = correlation[:dim, :dim], correlation[:dim, dim:]
        self.of_condition = correlation[dim:, dim:]
        variances, directions = np.linalg.eigh(self.of_condition)
        self.variances, self.directions = variances[variances > MIN_VARIANCE], directions[:, variances > MIN_VARIANCE]
        # The correlation of each column with each principal component of the condition.
        self.with_components = self.with_condition @ self.directions / np.sqrt(self.variances)

    def least_squares(self) -> tuple[Coefficients, Square] | None:
        """The least-squares coefficients and the covariance of the residuals; None with too few rows."""
        if len(self.variances) > MAX_PARAMETERS_PER_ROW * self.effective_size:
            return None
        coefficients = self._coefficients(np.zeros(len(self.of_columns)))
        return coefficients, self._residual_covariance(coefficients)

    def ridge(self) -> tuple[Coefficients, Square]:
        """The ridge-regression coefficients, and an estimate of the covariance of the residuals of new rows.

        Each column has the ridge with the smallest error in generalized cross-validation.

        References:
            Golub, Heath and Wahba, Generalized Cross-Validation as a Method for Choosing a Good Ridge Parameter (1979).
        """
        errors, ridges = np.full(len(self.of_columns), np.inf), np.zeros(len(self.of_columns))
        for ridge in RIDGES:
            shrinkage = self.variances / (self.variances + ridge)
            num_parameters = shrinkage.sum()
            if num_parameters > MAX_PARAMETERS_PER_ROW * self.effective_size:
                continue
            residual_variances = 1 - self.with_components**2 @ (shrinkage * (2 - shrinkage))
            error = residual_variances / (1 - num_parameters / self.effective_size) ** 2
            ridges, errors = np.where(error < errors, ridge, ridges), np.minimum(error, errors)
        coefficients = self._coefficients(ridges)
        covariance = self._residual_covariance(coefficients)
        # Residuals of the rows that the coefficients were fitted to are smaller than those of new rows.
        inflation = np.sqrt(errors / np.diag(covariance))
        return coefficients, covariance * np.outer(inflation, inflation)

    def _coefficients(self, ridges: Float[np.ndarray, " dim"]) -> Coefficients:
        shrinkage = self.variances / (self.variances + ridges[:, None])
        return self.with_components * shrinkage / np.sqrt(self.variances) @ self.directions.T

    def _residual_covariance(self, coefficients: Coefficients) -> Square:
        explained = coefficients @ self.with_condition.T
        return self.of_columns - explained - explained.T + coefficients @ self.of_condition @ coefficients.T


class Residuals(NamedTuple):
    """The function from rows to their residuals in a regression of standardized columns on a standardized condition.

    Args:
        loc: the means of the columns and of the condition.
        scale: their standard deviations.
        coefficients: the coefficients of the condition.
        inflation: a factor for each column that gives the residuals the variance of those of new rows.
    """

    loc: Float[np.ndarray, " dim_and_cond_dim"]
    scale: Float[np.ndarray, " dim_and_cond_dim"]
    coefficients: Coefficients
    inflation: Float[np.ndarray, " dim"]

    @classmethod
    def fit(
        cls,
        loc: Float[np.ndarray, " dim_and_cond_dim"],
        scale: Float[np.ndarray, " dim_and_cond_dim"],
        coefficients: Coefficients,
        covariance: Square,
        rows: Joint,
        weights: Float[np.ndarray, " n"],
    ) -> "Residuals":
        """Choose the inflation with which the residuals of these rows have the variances in `covariance`.

        Args:
            loc: the means of the columns and of the condition.
            scale: their standard deviations.
            coefficients: the coefficients of the condition.
            covariance: the covariance of the residuals of new rows.
            rows: the columns, followed by those of the condition.
            weights: the weight of each row.
        """
        plain = cls(loc, scale, coefficients, np.ones(len(coefficients)))
        scales = np.sqrt(weights @ plain(rows) ** 2 / weights.sum())
        return plain._replace(inflation=np.sqrt(np.diag(covariance)) / np.where(scales > 0, scales, 1))

    def __call__(self, rows: Joint) -> Float[np.ndarray, "n dim"]:
        """The residuals.

        Args:
            rows: the columns, followed by those of the condition.
        """
        z = (rows - self.loc) / self.scale
        dim = len(self.coefficients)
        return (z[:, :dim] - z[:, dim:] @ self.coefficients.T) * self.inflation


def fit_tail_transforms_given_condition(rows: Joint, dim: int, weights: Float[np.ndarray, " n"]) -> TailTransforms:
    """The tail transforms of columns whose heavy tails do not come from the condition.

    A column that is linear in a heavy-tailed condition has heavy tails too, but transforming it would destroy the
    linear relation. A transform is kept if it increases the conditional likelihood of the column. In the comparison,
    the residuals may have tail transforms as well.

    Args:
        rows: the columns, followed by those of the condition.
        dim: the number of columns; the others are the condition.
        weights: the weight of each row.
    """
    z, condition = rows[:, :dim], rows[:, dim:]
    # These rows may be a part of a file in which a column of the condition is constant; drop such columns.
    condition = condition[:, np.ptp(condition, axis=0) > 0]
    transforms = fit_tail_transforms(z, weights)
    if not condition.size or not transforms.any:
        return transforms
    y = transforms.inverse(z)
    log_slopes = transforms.log_likelihoods + np.log(standard_deviations(y, weights / weights.sum()))
    # A column that is a function of the condition has an infinite likelihood or NaN, and is not transformed.
    with np.errstate(all="ignore"):
        transformed = _conditional_log_likelihoods(y, condition, weights) + log_slopes
        return transforms.where(transformed > _conditional_log_likelihoods(z, condition, weights))


def _conditional_log_likelihoods(
    z: Float[np.ndarray, "n dim"], condition: Float[np.ndarray, "n cond_dim"], weights: np.ndarray
) -> Float[np.ndarray, " dim"]:
    """The log-likelihood of each column if its residuals, after a tail transform, are Gaussian; up to a constant."""
    rows, dim = np.concatenate([z, condition], axis=1), z.shape[1]
    moments = Moments(rows)
    moments.add(rows, weights)
    regression = LinearRegression(moments.correlation, dim, moments.effective_size)
    residuals = Residuals.fit(moments.loc, moments.scale, *regression.ridge(), rows, weights)
    return fit_tail_transforms(residuals(rows), weights).log_likelihoods - np.log(moments.scale[:dim])
