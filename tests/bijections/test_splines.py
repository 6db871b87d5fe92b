"""Splines against the papers' formulas, written naively: first the rational-quadratic one, then all families."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.interpolate import CubicHermiteSpline

from products import few
from pushforward import bijections as bj
from pushforward.bijections.splines import MIN_FRACTION
from pushforward.testing import check_bijection, randomize

OPTIMIZED = True

SETTINGS = [(2, 1.0), (2, 3.0), (5, 3.0), (8, 5.0)]
ids = pytest.mark.parametrize(("bins", "bound"), SETTINGS, ids=str)


def random_spline(bins, bound, seed=0, scale=2.0):
    return randomize(bj.RationalQuadraticSpline(bins, bound), jr.key(seed), scale)


def knots_of(spline):
    """The knots and the slopes at them from the raw arrays, in NumPy."""

    def positions(raw):
        fraction = np.exp(raw - raw.max()) / np.exp(raw - raw.max()).sum()
        fraction = MIN_FRACTION / raw.size + (1 - MIN_FRACTION) * fraction
        return np.append(-1.0, -1.0 + 2 * np.cumsum(fraction)) * spline.bound

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


def test_slope_of_the_inverse_at_knots():
    """At the start of an equal bin the inverse has slope 1; a gradient split between branches would be 1/2."""
    spline = bj.RationalQuadraticSpline(4, 2.0)
    np.testing.assert_allclose(jax.vmap(jax.grad(spline.inverse))(jnp.array([-2.0, -1.0, 0.0, 1.0, 2.0])), 1.0)


# All families.

FAMILIES = {
    "linear": bj.LinearSpline,
    "quadratic": bj.QuadraticSpline,
    "cubic": bj.CubicSpline,
    "rational_quadratic": bj.RationalQuadraticSpline,
    "linear_rational": bj.LinearRationalSpline,
}
families = pytest.mark.parametrize("family", FAMILIES)
METHODS = ("forward_and_log_det", "inverse_and_log_det")
# Without linear splines, whose slopes are discontinuous.
smooth = pytest.mark.parametrize("family", [f for f in FAMILIES if f != "linear"])


def member(family, seed=0, scale=2.0):
    return randomize(FAMILIES[family](5, 3.0), jr.key(seed), scale)


def all_knots(spline):
    """The knots in u and in x, the slopes there, and the further values of each bin."""
    (u, w), (x, h), slopes, others = spline._bins()
    return *(np.append(start, start[-1] + size[-1]) for start, size in ((u, w), (x, h))), np.asarray(slopes), *others


def beside(points, dtype):
    """The points and their floating-point neighbors on both sides."""
    points = np.asarray(points, dtype)
    return np.concatenate([points, *(np.nextafter(points, dtype(to)) for to in (-np.inf, np.inf))])


@eqx.filter_jit
def evaluate(spline, points):
    """The values and log-determinants of both directions."""
    return [jax.vmap(getattr(spline, method))(points) for method in METHODS]


@eqx.filter_jit
def gradients(spline, points):
    def total(spline_and_point, method):
        value, log_det = getattr(spline_and_point[0], method)(spline_and_point[1])
        return value + log_det

    return [
        jax.vmap(lambda point, method=method: eqx.filter_grad(total)((spline, point), method))(points)
        for method in METHODS
    ]


def naive_positions(raw, bound):
    fraction = np.exp(raw) / np.exp(raw).sum()
    fraction = MIN_FRACTION / raw.size + (1 - MIN_FRACTION) * fraction
    return np.append(-1.0, -1.0 + 2 * np.cumsum(fraction)) * bound


def naive_linear(spline, points):
    us, xs = (naive_positions(np.asarray(raw), 3.0) for raw in (spline.raw_widths, spline.raw_heights))
    slopes = np.diff(xs) / np.diff(us)
    return np.interp(points, us, xs), slopes[np.searchsorted(us, points, side="right") - 1]


def naive_quadratic(spline, points):
    """Müller et al. (2019), equations 14 to 16: the slope is piecewise linear, the value its integral."""
    us, raw = naive_positions(np.asarray(spline.raw_widths), 3.0), np.asarray(spline.raw_slopes)
    inner = np.concatenate([[0.0], (raw + np.sqrt(raw**2 + 4)) / 2, [0.0]])
    ends = np.array([1.0, 0, 0, 0, 0, 1.0])
    slopes = ends + inner * (6.0 - np.trapezoid(ends, us)) / np.trapezoid(inner, us)

    def area(u):
        inside = np.concatenate([us[us < u], [u]])
        return np.trapezoid(np.interp(inside, us, slopes), inside)

    return np.array([area(u) - 3.0 for u in points]), np.interp(points, us, slopes)


def naive_cubic(spline, points):
    """Steffen (1990), equations 8 to 11, with SciPy's Hermite spline; the end slopes are learned."""
    us, xs = (naive_positions(np.asarray(raw), 3.0) for raw in (spline.raw_widths, spline.raw_heights))
    h, s = np.diff(us), np.diff(xs) / np.diff(us)
    p = (s[:-1] * h[1:] + s[1:] * h[:-1]) / (h[:-1] + h[1:])
    inner = (np.sign(s[:-1]) + np.sign(s[1:])) * np.minimum(np.minimum(abs(s[:-1]), abs(s[1:])), abs(p) / 2)
    first, *_, last = all_knots(spline)[2]
    hermite = CubicHermiteSpline(us, xs, np.array([first, *inner, last]))
    return hermite(points), hermite(points, 1)


def naive_linear_rational(spline, points):
    """Dolatabadi et al. (2020), algorithm 1."""
    us, xs = (naive_positions(np.asarray(raw), 3.0) for raw in (spline.raw_widths, spline.raw_heights))
    raw = np.asarray(spline.raw_slopes)
    slopes = np.concatenate([[1.0], (raw + np.sqrt(raw**2 + 4)) / 2, [1.0]])
    meets = MIN_FRACTION + (1 - 2 * MIN_FRACTION) / (1 + np.exp(-np.asarray(spline.raw_meets)))

    def one(u):
        k = np.searchsorted(us, u, side="right") - 1
        (y_a, y_b), (d_a, d_b), meet = xs[k : k + 2], slopes[k : k + 2], meets[k]
        width, height = us[k + 1] - us[k], y_b - y_a
        w_a, w_b = 1.0, np.sqrt(d_a / d_b)
        y_m = ((1 - meet) * w_a * y_a + meet * w_b * y_b) / ((1 - meet) * w_a + meet * w_b)
        w_m = (meet * w_a * d_a + (1 - meet) * w_b * d_b) * width / height
        phi = (u - us[k]) / width
        if phi <= meet:
            bottom = w_a * (meet - phi) + w_m * phi
            x = (w_a * y_a * (meet - phi) + w_m * y_m * phi) / bottom
            return x, meet * w_a * w_m * (y_m - y_a) / bottom**2 / width
        bottom = w_m * (1 - phi) + w_b * (phi - meet)
        x = (w_m * y_m * (1 - phi) + w_b * y_b * (phi - meet)) / bottom
        return x, (1 - meet) * w_m * w_b * (y_b - y_m) / bottom**2 / width

    return np.array([one(u) for u in points]).T


NAIVE = {
    "linear": naive_linear,
    "quadratic": naive_quadratic,
    "cubic": naive_cubic,
    "linear_rational": naive_linear_rational,
}


@pytest.mark.parametrize("family", NAIVE)
@pytest.mark.parametrize("seed", range(3))
def test_golden_values_of_families(family, seed):
    spline = member(family, seed)
    points = np.random.default_rng(seed).uniform(-3.0, 3.0, 200)
    expected, slopes = NAIVE[family](spline, points)
    (x, log_det), (u, inverse_log_det) = evaluate(spline, points)
    np.testing.assert_allclose(x, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(log_det, np.log(slopes), rtol=1e-8, atol=1e-8)
    expected, slopes = NAIVE[family](spline, np.asarray(u))
    np.testing.assert_allclose(expected, points, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(inverse_log_det, -np.log(slopes), rtol=1e-7, atol=1e-7)


@families
def test_begins_as_the_identity(family):
    points = np.linspace(-4.0, 4.0, 200)
    for value, log_det in evaluate(FAMILIES[family](5, 3.0), points):
        np.testing.assert_allclose(value, points, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(log_det, 0.0, atol=1e-13)


@pytest.mark.parametrize("family", few(FAMILIES, "rational_quadratic"))
def test_conformance_at_own_knots(family, precision):
    """At knots, at their neighbors, between them and outside."""
    spline = member(family)
    dtype = jnp.result_type(float).type
    us, *_ = all_knots(spline)
    points = np.concatenate([beside(us, dtype), ((us[1:] + us[:-1]) / 2).astype(dtype), [-4.0, 50.0]])
    check_bijection(spline, key=jr.key(1), scales=(0.0, 3.0), points=points)


@families
def test_gradients_of_families_are_finite_in_float32(family):
    with jax.enable_x64(False):
        for scale in (0.0, 1.0, 5.0):
            spline = member(family, scale=scale)
            us, xs, *_ = all_knots(spline)
            points = beside(np.concatenate([us, xs, [-3.0, 3.0, -1e4, 1e30, 0.0]]), np.float32)
            for leaf in jax.tree.leaves(gradients(spline, points)):
                assert leaf.dtype == jnp.float32
                assert jnp.isfinite(leaf).all()


@families
def test_interpolates_knots(family):
    for seed in range(3):
        spline = member(family, seed)
        us, xs, slopes, *_ = all_knots(spline)
        (x, log_det), _ = evaluate(spline, us)
        np.testing.assert_allclose(x, xs, atol=1e-12)
        if family != "linear":
            np.testing.assert_allclose(log_det, np.log(slopes), atol=1e-10)
        _, (u, _) = evaluate(spline, xs)
        np.testing.assert_allclose(u, us, atol=1e-11)


@smooth
def test_slope_of_families_is_continuous(family):
    spline = member(family)
    us, xs, *_ = all_knots(spline)
    (_, below), _ = evaluate(spline, us - 1e-12)
    (_, above), _ = evaluate(spline, us + 1e-12)
    np.testing.assert_allclose(below, above, atol=1e-4)
    _, (_, below) = evaluate(spline, xs - 1e-12)
    _, (_, above) = evaluate(spline, xs + 1e-12)
    np.testing.assert_allclose(below, above, atol=1e-4)


@families
def test_lines_outside(family):
    """The identity, except for cubic splines, whose end slopes are learned."""
    spline = member(family)
    u = np.array([-1e6, -6.0, -3.0, 3.0, 7.0, 1e6])
    first, *_, last = all_knots(spline)[2]
    slope = np.where(u < 0, first, last)
    assert family == "cubic" or np.all(slope == 1)
    (x, log_det), _ = evaluate(spline, u)
    np.testing.assert_allclose(x, np.sign(u) * 3 + slope * (u - np.sign(u) * 3), rtol=1e-12)
    _, (back, inverse_log_det) = evaluate(spline, x)
    np.testing.assert_allclose(back, u, rtol=1e-12)
    outside = np.abs(u) > 3
    np.testing.assert_allclose(log_det[outside], np.log(slope)[outside], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(inverse_log_det[outside], -np.log(slope)[outside], rtol=1e-12, atol=1e-12)


@families
def test_infinity_stays_infinite(family):
    spline = member(family)
    ends = np.array([-np.inf, np.inf])
    for x, log_det in evaluate(spline, ends):
        np.testing.assert_array_equal(x, ends)
        assert np.isfinite(log_det).all()


@families
@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31 - 1), scale=st.floats(0.0, 5.0))
def test_families_increase_and_come_back(family, seed, scale):
    """For any parameters: the round trip, both log-determinants, and the order of the points."""
    spline = member(family, seed, scale)
    points = np.sort(np.random.default_rng(seed).uniform(-4.0, 4.0, 200))
    (x, log_det), _ = evaluate(spline, points)
    _, (u, inverse_log_det) = evaluate(spline, x)
    assert jnp.all(jnp.diff(x) > 0)
    # The error of u that rounding of x causes, from the slope.
    allowed = 1e-13 * (1 + jnp.abs(x)) * (1 + jnp.exp(-log_det))
    assert jnp.all(jnp.abs(u - points) <= 100 * allowed)
    far = jnp.min(jnp.abs(points[:, None] - all_knots(spline)[0]), axis=1) > 1e-9
    np.testing.assert_allclose(jnp.where(far, inverse_log_det, 0), jnp.where(far, -log_det, 0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("bins", "bound"), [(0, 1.0), (1, 1.0), (2.5, 1.0), (3, 0.0), (3, -1.0), (3, float("nan"))])
def test_errors(bins, bound):
    with pytest.raises(ValueError, match="bins >= 2 and a positive, finite bound"):
        bj.RationalQuadraticSpline(bins, bound)


@families
@pytest.mark.parametrize(("bins", "bound"), [(0, 1.0), (3, 0.0), (3, float("inf"))])
def test_errors_of_families(family, bins, bound):
    fewest = 3 if family == "quadratic" else 2
    with pytest.raises(ValueError, match=f"bins >= {fewest} and a positive, finite bound, but got bins={bins}"):
        FAMILIES[family](bins, bound)
    with pytest.raises(ValueError, match=f"got bins={fewest - 1}"):
        FAMILIES[family](fewest - 1, 1.0)
