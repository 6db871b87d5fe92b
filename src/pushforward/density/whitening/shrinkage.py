"""Correlations of few rows, whose least eigenvalues are too small."""

import numpy as np
from jaxtyping import Float

from pushforward.density.data.splitting import hash_rows

# With so many rows to a column correlations are known well enough.
ENOUGH = 50
# Shares of the identity that are compared; with the last there are no correlations.
SHARES = np.array([0.0, *10.0 ** np.arange(-6, 0, 0.5), 1.0])
NUM_FOLDS = 10
# Of a correlation matrix, what is rounding.
LEAST_EIGENVALUE = 1e-14


def share_of_identity(rows: Float[np.ndarray, "n dim"], counts: Float[np.ndarray, " n"], size: float) -> float:
    r"""The share $r$ such that Gaussians with correlations $(1 - r) R + r I$ do best on rows that $R$ is not from.

    Args:
        rows: in units not far from their own.
        counts: how much each counts.
        size: how many rows of equal weight they are worth.

    References:
        Friedman, Regularized Discriminant Analysis (1989), section 5. https://doi.org/10.1080/01621459.1989.10478752
    """
    dim = rows.shape[1]
    if dim < 2:
        return 0.0
    # By their digests copies stay together: what is left out must not be among what is kept.
    distinct, kinds = np.unique(hash_rows((rows,)), return_inverse=True)
    if size * len(distinct) / len(rows) >= ENOUGH * dim:
        return 0.0
    mean = counts @ rows / counts.sum()
    z = (rows - mean) / np.sqrt(counts @ (rows - mean) ** 2 / counts.sum())
    folds = kinds % NUM_FOLDS
    losses = np.zeros(len(SHARES))
    for fold in range(min(NUM_FOLDS, len(distinct))):
        losses += _losses(z, np.where(folds == fold, 0, counts), np.where(folds == fold, counts, 0))
    return float(SHARES[losses.argmin()])


def _losses(z: np.ndarray, kept: np.ndarray, left_out: np.ndarray) -> Float[np.ndarray, " shares"]:
    """Of each share, the negative log-likelihood of rows by the correlations of others, but for a constant."""
    off = z - kept @ z / kept.sum()
    covariance = (kept[:, None] * off).T @ off / kept.sum()
    # A column may be constant in the rows that are kept.
    spread = np.sqrt(np.maximum(np.diag(covariance), LEAST_EIGENVALUE))
    correlation = covariance / np.outer(spread, spread)
    np.fill_diagonal(correlation, 1)
    values, vectors = np.linalg.eigh(correlation)
    variances = (1 - SHARES[:, None]) * np.maximum(values, LEAST_EIGENVALUE) + SHARES[:, None]
    squares = left_out @ (z @ vectors) ** 2
    return left_out.sum() * np.log(variances).sum(1) + (squares / variances).sum(1)
