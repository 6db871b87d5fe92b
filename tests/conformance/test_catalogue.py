"""Every bijection, and every transformer with every conditioner, in both precisions and at four scales."""

import jax
import jax.random as jr
import pytest

from cases import CATALOGUE, PRODUCT, TOLERANCES
from pushforward.testing import check_bijection

pytestmark = pytest.mark.conformance


# In float32, parameters moved by 3 x normal lead these beyond the largest numbers.
OVERFLOWS = {
    ("invert", 17),
    ("coupling of sinh_arcsinh with a condition", 5),
    ("masked_autoregressive of sinh_arcsinh", 5),
    ("masked_autoregressive of sinh_arcsinh with a condition", 5),
}


def check(name, cases, dim):
    build_key, check_key = jr.split(jr.key(1000 * [*cases].index(name) + dim))
    double = jax.config.jax_enable_x64
    tolerance = TOLERANCES.get(name) if double else None
    scales = (0.0, 0.1, 1.0) if not double and (name, dim) in OVERFLOWS else (0.0, 0.1, 1.0, 3.0)
    check_bijection(cases[name](dim, build_key), key=check_key, scales=scales, num_points=8, tolerance=tolerance)


@pytest.mark.parametrize("dim", (1, 2, 5, 17))
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_bijection(name, dim, precision):
    check(name, CATALOGUE, dim)


@pytest.mark.parametrize("dim", (2, 5))
@pytest.mark.parametrize("name", PRODUCT)
def test_every_transformer_with_every_conditioner(name, dim, precision):
    check(name, PRODUCT, dim)
