"""The rational-quadratic spline against the paper's formulas, written naively."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward import bijections as bj
from pushforward.bijections.splines import SMALLEST_SHARE
from pushforward.testing import check_bijection, randomize

SETTINGS = [(1, 1.0), (2, 3.0), (5, 3.0), (8, 5.0)]
ids = pytest.mark.parametrize(("bins", "bound"), SETTINGS, ids=str)


def random_spline(bins, bound, seed=0, scale=2.0):
    return randomize(bj.RationalQuadraticSpline(bins, bound), jr.key(seed), scale)


def knots_of(spline):
    """Knots and slopes at them, from the raw arrays: numpy only."""

    def positions(raw):
        share = np.exp(raw - raw.max()) / np.exp(raw - raw.max()).sum()
        share = SMALLEST_SHARE / raw.size + (1 - SMALLEST_SHARE) * share
        return np.append(-1.0, -1.0 + 2 * np.cumsum(share)) * spline.bound

    raw = np.asarray(spline.raw_slopes)
    slopes = np.concatenate([[1.0], (raw + np.sqrt(raw**2 + 4)) / 2, [1.0]])
    return positions(np.asarray(spline.raw_widths)), positions(np.asarray(spline.raw_heights)), slopes


def naive_forward(spline, u):
    """Durkan et al. (2019), equations 4 and 5, bin by bin."""
    us, xs, slopes = knots_of(spline)
    if abs(u) >= spline.bound:
        return u, 1.0
    k = max(j for j in range(len(us) - 1) if us[j] <= u)
    s = (xs[k + 1] - xs[k]) / (us[k + 1] - us[k])
    xi = (u - us[k]) / (us[k + 1] - us[k])
    bottom = s + (slopes[k + 1] + slopes[k] - 2 * s) * xi * (1 - xi)
    x = xs[k] + (xs[k + 1] - xs[k]) * (s * xi**2 + slopes[k] * xi * (1 - xi)) / bottom
    slope = s**2 * (slopes[k + 1] * xi**2 + 2 * s * xi * (1 - xi) + slopes[k] * (1 - xi) ** 2) / bottom**2
    return x, slope


def naive_inverse(spline, x):
    """Durkan et al. (2019), equations 6 to 8."""
    us, xs, slopes = knots_of(spline)
    if abs(x) >= spline.bound:
        return x
    k = max(j for j in range(len(xs) - 1) if xs[j] <= x)
    height = xs[k + 1] - xs[k]
    s = height / (us[k + 1] - us[k])
    curve = slopes[k + 1] + slopes[k] - 2 * s
    a = height * (s - slopes[k]) + (x - xs[k]) * curve
    b = height * slopes[k] - (x - xs[k]) * curve
    c = -s * (x - xs[k])
    xi = 2 * c / (-b - np.sqrt(b**2 - 4 * a * c))
    return us[k] + xi * (us[k + 1] - us[k])


@ids
@pytest.mark.parametrize("seed", range(3))
def test_golden_values(bins, bound, seed):
    spline = random_spline(bins, bound, seed)
    points = np.random.default_rng(seed).uniform(-1.3 * bound, 1.3 * bound, 200)
    x, log_det = jax.vmap(spline.forward_and_log_det)(points)
    expected, slopes = np.array([naive_forward(spline, u) for u in points]).T
    np.testing.assert_allclose(x, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(log_det, np.log(slopes), rtol=1e-10, atol=1e-10)
    u, log_det = jax.vmap(spline.inverse_and_log_det)(points)
    expected = np.array([naive_inverse(spline, x) for x in points])
    np.testing.assert_allclose(u, expected, rtol=1e-9, atol=1e-9)
    slopes = np.array([naive_forward(spline, u)[1] for u in expected])
    np.testing.assert_allclose(log_det, -np.log(slopes), rtol=1e-8, atol=1e-8)


@ids
def test_interpolates_knots_with_their_slopes(bins, bound):
    spline = random_spline(bins, bound)
    us, xs, slopes = knots_of(spline)
    x, log_det = jax.vmap(spline.forward_and_log_det)(us)
    np.testing.assert_allclose(x, xs, atol=1e-12)
    np.testing.assert_allclose(log_det, np.log(slopes), atol=1e-11)
    u, log_det = jax.vmap(spline.inverse_and_log_det)(xs)
    np.testing.assert_allclose(u, us, atol=1e-12)
    np.testing.assert_allclose(log_det, -np.log(slopes), atol=1e-11)


@ids
def test_slope_is_continuous_at_knots_and_bounds(bins, bound):
    spline = random_spline(bins, bound)
    us, xs, _ = knots_of(spline)
    log_det = jax.vmap(lambda u: spline.forward_and_log_det(u)[1])
    np.testing.assert_allclose(log_det(us - 1e-9), log_det(us + 1e-9), atol=1e-5)
    log_det = jax.vmap(lambda x: spline.inverse_and_log_det(x)[1])
    np.testing.assert_allclose(log_det(xs - 1e-9), log_det(xs + 1e-9), atol=1e-5)


@ids
def test_identity_outside(bins, bound):
    spline = random_spline(bins, bound)
    u = bound * jnp.array([-1e6, -2.0, -1.0, 1.0, 1.0 + 1e-15, 7.0])
    for method in (spline.forward_and_log_det, spline.inverse_and_log_det):
        x, log_det = jax.vmap(method)(u)
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(log_det, np.zeros(6))


@ids
def test_monotone(bins, bound):
    u = jnp.linspace(-1.1 * bound, 1.1 * bound, 5001)
    for seed in range(3):
        spline = random_spline(bins, bound, seed, scale=4.0)
        assert jnp.all(jnp.diff(jax.vmap(spline.forward)(u)) > 0)
        assert jnp.all(jnp.diff(jax.vmap(spline.inverse)(u)) > 0)


@pytest.mark.parametrize("x64", [True, False], ids=["float64", "float32"])
def test_conformance_at_own_knots(x64):
    with jax.enable_x64(x64):
        spline = random_spline(5, 3.0)
        us, _, _ = knots_of(spline)
        dtype = jnp.result_type(float).type
        points = np.concatenate(
            [us.astype(dtype), np.nextafter(us, -10, dtype=dtype), np.nextafter(us, 10, dtype=dtype)]
        )
        check_bijection(spline, jr.key(1), scales=(0.0,), points=points)


@pytest.mark.parametrize("method", ["forward_and_log_det", "inverse_and_log_det"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
def test_gradients_are_finite_in_float32(method, scale):
    with jax.enable_x64(False):
        spline = random_spline(6, 4.0, scale=scale)
        us, xs, _ = knots_of(spline)
        at = np.concatenate([us, xs, [-4.0, 4.0, -1e4, 1e30, 0.0]]).astype(np.float32)
        at = jnp.concatenate([at, np.nextafter(at, np.float32(-np.inf)), np.nextafter(at, np.float32(np.inf))])

        def value(spline, u):
            x, log_det = getattr(spline, method)(u)
            return x + log_det

        gradients = jax.vmap(jax.grad(value, argnums=(0, 1)), in_axes=(None, 0))(spline, at)
        for leaf in jax.tree.leaves(gradients):
            assert leaf.dtype == jnp.float32
            assert jnp.isfinite(leaf).all()


def test_slope_of_the_inverse_at_knots():
    """Where an equal bin begins the inverse has slope 1: a gradient shared between branches would be a half."""
    spline = bj.RationalQuadraticSpline(4, 2.0)
    np.testing.assert_allclose(jax.vmap(jax.grad(spline.inverse))(jnp.array([-2.0, -1.0, 0.0, 1.0, 2.0])), 1.0)


@pytest.mark.parametrize(("bins", "bound"), [(0, 1.0), (3, 0.0), (3, -1.0), (3, float("nan"))])
def test_errors(bins, bound):
    with pytest.raises(ValueError, match="bins >= 1 and a positive, finite bound"):
        bj.RationalQuadraticSpline(bins, bound)
