"""How much information do weighted samples hold?"""

import numpy as np

from pushforward.bijections.arrays import ArrayLike


def effective_sample_size(weights: ArrayLike) -> float:
    r"""Kish's effective sample size, $(\sum w)^2 / \sum w^2$: the number of equally weighted rows of equal information.

    Args:
        weights: the weights of rows, not negative.

    References:
        Kish, Survey Sampling (1965), section 11.7.
    """
    weights = np.asarray(weights, float)
    return float(weights.sum() ** 2 / np.sum(weights**2))
