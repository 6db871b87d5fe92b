"""Monotone networks against the papers' formulas and numerical integration, far out in the tails too."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward import bijections as bj
from pushforward.testing import check_bijection, randomize

KINDS = {"deep_sigmoidal": bj.DeepSigmoidal, "integral": bj.IntegralNetwork, "monotone": bj.MonotoneNetwork}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
METHODS = ("forward_and_log_det", "inverse_and_log_det")
methods = pytest.mark.parametrize("method", METHODS)


def moved(kind, seed=0, scale=3.0):
    return randomize(kind(), jr.key(seed), scale)


def positive(raw):
    return (raw + np.sqrt(raw**2 + 4)) / 2


def softmax(raw):
    return np.exp(raw) / np.exp(raw).sum(-1, keepdims=True)


@kinds
def test_conformance(kind, precision):
    # In float32 this is 10 times the default.
    tolerance = 1e-9 if precision == "float64" else 1e-5
    points = jnp.array([-5.0, 5.0, -20.0, 1e3])
    check_bijection(kind(), jr.key(0), scales=(0.0, 0.1, 1.0, 3.0), points=points, tolerance=tolerance)
