"""The distance of draws from the reference draws, in the posterior's standard deviations."""

import numpy as np
import scipy.stats

Arrays = dict[str, np.ndarray]


def columns(draws: Arrays, names: list[str]) -> np.ndarray:
    """Variables side by side, as an array of shape (draws, scalars)."""
    return np.concatenate([np.asarray(draws[name]).reshape(len(draws[name]), -1) for name in names], 1)


def compare(draws: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """The largest errors over all marginals: of the mean, of the standard deviation, and the 1-Wasserstein distance."""
    mean, sd = reference.mean(0), reference.std(0)
    distances = [
        scipy.stats.wasserstein_distance(a, b) for a, b in zip((draws / sd).T, (reference / sd).T, strict=True)
    ]
    return {
        "mean": float(np.abs((draws.mean(0) - mean) / sd).max()),
        "sd": float(np.abs(draws.std(0) / sd - 1).max()),
        "w1": float(max(distances)),
    }


def floor(reference: np.ndarray) -> dict[str, float]:
    """The same between two halves of the reference draws: the figures of exact draws, half as many."""
    # Halves of whole chains, because neighbors in a chain are not independent.
    half = len(reference) // 2
    return compare(reference[:half], reference[half:])
