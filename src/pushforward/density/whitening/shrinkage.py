"""Shrinkage of the correlations of few rows, whose smallest eigenvalues are too small.

The amount of shrinkage is chosen by cross-validation. The estimators of scikit-learn (`LedoitWolf`, `OAS`) minimize the
squared error of the covariance, not the likelihood of new rows, and handle neither weights nor copies of rows.
"""

import numpy as np
from jaxtyping import Float

from pushforward.density.data.splitting import hash_rows

# With this many rows per column, correlations are estimated well enough without shrinkage.
ENOUGH_ROWS_PER_COLUMN = 50
# The amounts of shrinkage that are compared. With the last, all correlations are 0.
AMOUNTS = np.array([0.0, *10.0 ** np.arange(-6, 0, 0.5), 1.0])
NUM_FOLDS = 10
# Eigenvalues of a correlation matrix below this are rounding errors.
MIN_EIGENVALUE = 1e-14


def choose_shrinkage(
    rows: Float[np.ndarray, "n dim"], weights: Float[np.ndarray, " n"], effective_size: float
) -> float:
    r"""The amount $r$ for which Gaussians with correlations $(1 - r) R + r I$ have the highest cross-validation score.

    Args:
        rows: the rows, approximately standardized.
        weights: the weight of each row.
        effective_size: the effective sample size of all rows, of which these may be a part.

    References:
        Friedman, Regularized Discriminant Analysis (1989), section 5. https://doi.org/10.1080/01621459.1989.10478752
    """
    dim = rows.shape[1]
    if dim < 2:
        return 0.0
    # Folds are assigned by hash, so that copies of a row are in the same fold.
    distinct, group = np.unique(hash_rows((rows,)), return_inverse=True)
    if effective_size * len(distinct) / len(rows) >= ENOUGH_ROWS_PER_COLUMN * dim:
        return 0.0
    mean = weights @ rows / weights.sum()
    z = (rows - mean) / np.sqrt(weights @ (rows - mean) ** 2 / weights.sum())
    folds = group % NUM_FOLDS
    losses = np.zeros(len(AMOUNTS))
    for fold in range(min(NUM_FOLDS, len(distinct))):
        losses += _validation_losses(z, np.where(folds == fold, 0, weights), np.where(folds == fold, weights, 0))
    if len(distinct) <= dim:
        # Without shrinkage the correlation matrix is singular; of equally good amounts, the largest is the safest.
        return float(AMOUNTS[::-1][losses[:0:-1].argmin()])
    return float(AMOUNTS[losses.argmin()])


def are_few_rows(rows: Float[np.ndarray, "n dim"]) -> bool:
    """Whether the correlations of rows are singular because no more rows than columns are distinct.

    Args:
        rows: the rows.
    """
    return len(rows) <= rows.shape[1] or len(np.unique(hash_rows((rows,)))) <= rows.shape[1]


def _validation_losses(z: np.ndarray, training: np.ndarray, validation: np.ndarray) -> Float[np.ndarray, " amounts"]:
    """The negative log-likelihood of validation rows for each amount, up to a constant.

    Args:
        z: all rows, standardized.
        training: the weights of the training rows, 0 for the others.
        validation: the weights of the validation rows, 0 for the others.
    """
    deviations = z - training @ z / training.sum()
    covariance = (training[:, None] * deviations).T @ deviations / training.sum()
    # A column may be constant in the training rows.
    scale = np.sqrt(np.maximum(np.diag(covariance), MIN_EIGENVALUE))
    correlation = covariance / np.outer(scale, scale)
    np.fill_diagonal(correlation, 1)
    eigenvalues, eigenvectors = np.linalg.eigh(correlation)
    variances = (1 - AMOUNTS[:, None]) * np.maximum(eigenvalues, MIN_EIGENVALUE) + AMOUNTS[:, None]
    squares = validation @ (z @ eigenvectors) ** 2
    return validation.sum() * np.log(variances).sum(1) + (squares / variances).sum(1)
