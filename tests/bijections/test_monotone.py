"""Monotone networks against the papers' formulas and numerical integration, far out in the tails too."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import BSpline

from products import few
from pushforward import bijections as bj
from pushforward.bijections.arrays import map_scalars
from pushforward.bijections.monotone import MIN_WEIGHT
from pushforward.testing import check_bijection, randomize

OPTIMIZED = True

KINDS = {"deep_sigmoidal": bj.DeepSigmoidal, "integral": bj.IntegralNetwork, "monotone": bj.MonotoneNetwork}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
METHODS = ("forward_and_log_det", "inverse_and_log_det")

# As many as the points in the tails, so that everything is compiled once.
POINTS = np.array([-7.0, -5.0, -4.9, -3.1, -1.7, -1e-3, 0.0, 0.3, 1.0, 2.2, 3.7, 4.99, 5.0, 9.0])
TAILS = np.array([-1e8, -1e4, -9999.0, -1e3, -100.0, -30.0, -8.0, 8.0, 30.0, 100.0, 1e3, 9999.0, 1e4, 1e8])


def moved(kind, seed=0, scale=3.0):
    return randomize(kind(), jr.key(seed), scale)


@eqx.filter_jit
def evaluate(bijection, points):
    """Values and log-determinants of both directions, and gradients of their sum by the arrays and the point."""

    def total(bijection_and_point, method):
        value, log_det = getattr(bijection_and_point[0], method)(bijection_and_point[1])
        return value + log_det, (value, log_det)

    def one(point, method):
        gradient, (value, log_det) = eqx.filter_grad(total, has_aux=True)((bijection, point), method)
        return value, log_det, gradient

    return [jax.vmap(lambda point, method=method: one(point, method))(points) for method in METHODS]


@pytest.mark.parametrize("kind", few(KINDS.values(), bj.DeepSigmoidal), ids=KINDS)
def test_conformance(kind, precision):
    # A tenth of the default in float32.
    tolerance = 1e-9 if precision == "float64" else 1e-5
    points = jnp.array([-5.0, 5.0, -20.0, 1e3])
    check_bijection(kind(), key=jr.key(0), scales=(0.1, 3.0), points=points, tolerance=tolerance)


@kinds
def test_begins_as_the_identity(kind):
    for x, log_det, _ in evaluate(kind(), POINTS):
        np.testing.assert_allclose(x, POINTS, rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(log_det, 0.0, atol=1e-14)


@pytest.mark.parametrize("name", ["deep_sigmoidal", "monotone"])
def test_units_do_not_begin_alike(name):
    """Units with equal gradients would stay equal."""
    (_, _, gradients), _ = evaluate(KINDS[name](), POINTS)
    bijection = gradients[0]
    for layer in bijection.layers if name == "monotone" else [bijection]:
        slopes = layer.raw_slopes[POINTS == 0.3][0]
        assert jnp.min(jnp.abs(jnp.diff(slopes))) > 1e-3 * jnp.max(jnp.abs(slopes))


@kinds
@pytest.mark.parametrize("scale", [0.0, 3.0, 10.0])
def test_tails(kind, scale, precision):
    """Values and gradients are finite, and the tails are lines."""
    eps = jnp.finfo(jnp.result_type(float)).eps
    tails = jnp.asarray(TAILS, jnp.result_type(float))
    for seed in range(3):
        bijection = moved(kind, seed, scale)
        for value, log_det, gradients in evaluate(bijection, tails):
            for leaf in jax.tree.leaves((value, log_det, gradients)):
                assert leaf.dtype == tails.dtype
                assert jnp.isfinite(leaf).all()
            # The secant of a long line from 1e4 to 1e8 is its slope.
            for end, near in ((0, 1), (-1, -2)):
                slope = (value[end] - value[near]) / (tails[end] - tails[near])
                np.testing.assert_allclose(jnp.log(slope), log_det[end], atol=1e-3)
        (x, log_det, _), _ = evaluate(bijection, tails)
        _, (back, _, _) = evaluate(bijection, x)
        rounding = eps * (1 + jnp.abs(tails) + (1 + jnp.abs(x)) * jnp.exp(-log_det))
        assert jnp.all(jnp.abs(back - tails) <= 100 * rounding)


@kinds
def test_increasing_with_the_slope_that_is_reported(kind):
    """Far from the initial parameters, at close points; the log-determinant equals the log-slope up to rounding."""
    u = jnp.linspace(-8.0, 8.0, 2001)

    @eqx.filter_jit
    def measure(bijection):
        x, log_det = jax.vmap(bijection.forward_and_log_det)(u)
        return x, log_det, jax.vmap(jax.grad(bijection.forward))(u)

    for seed in range(4):
        for scale in (3.0, 10.0):
            x, log_det, slope = measure(moved(kind, seed, scale))
            assert jnp.all(jnp.diff(x) > 0)
            np.testing.assert_allclose(log_det, jnp.log(slope), rtol=1e-10, atol=1e-10)


# Naive formulas.


def positive(raw):
    raw = np.asarray(raw)
    return (raw + np.sqrt(raw**2 + 4)) / 2


def softmax(raw):
    raw = np.asarray(raw)
    return np.exp(raw) / np.exp(raw).sum(-1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_deep_sigmoidal_golden_values(seed):
    """Huang et al. (2018), equation 8, and its derivative."""
    bijection = moved(bj.DeepSigmoidal, seed, 1.0)
    a, w = positive(bijection.raw_slopes), softmax(bijection.raw_weights)
    b = np.asarray(bijection.shifts) + (1 - a) * np.linspace(-2, 2, 8)
    on = 1 / (1 + np.exp(-(a * POINTS[:, None] + b)))
    y = on @ w
    (x, log_det, _), _ = evaluate(bijection, POINTS)
    np.testing.assert_allclose(x, np.log(y / (1 - y)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_det, np.log((on * (1 - on) * a) @ w / (y * (1 - y))), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_monotone_network_golden_values(seed):
    bijection = moved(bj.MonotoneNetwork, seed, 1.0)

    def weights(raw):
        return MIN_WEIGHT / raw.shape[-1] + (1 - MIN_WEIGHT) * softmax(raw)

    def naive(u):
        y, slope, pivots = np.array([u]), np.ones(1), np.linspace(-2, 2, 8)
        for layer in bijection.layers:
            w = np.ones((8, 1)) if layer.raw_weights is None else weights(layer.raw_weights)
            a, bend = positive(layer.raw_slopes), positive(layer.raw_bends)
            z = a * (w @ y - pivots) + np.asarray(layer.biases)
            y = pivots + z + (bend - 1) * np.tanh(z)
            slope = np.diag((1 + (bend - 1) / np.cosh(z) ** 2) * a) @ w @ slope
        return weights(bijection.raw_weights) @ y + bijection.loc, np.log(weights(bijection.raw_weights) @ slope)

    (x, log_det, _), _ = evaluate(bijection, POINTS)
    expected = np.array([naive(u) for u in POINTS])
    np.testing.assert_allclose(x, expected[:, 0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(log_det, expected[:, 1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", [jnp.arcsinh, jax.nn.sigmoid])
def test_monotone_network_takes_other_activations(activation):
    @jax.jit
    def measure(u):
        x, log_det = bijection.forward_and_log_det(u)
        return bijection.inverse(x), log_det, jax.grad(bijection.forward)(u)

    bijection = randomize(bj.MonotoneNetwork((3,), activation=activation), jr.key(0), 2.0)
    back, log_det, slope = jax.vmap(measure)(POINTS)
    np.testing.assert_allclose(back, POINTS, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(log_det, jnp.log(slope), atol=1e-12)


def integrand(bijection, t):
    """The positive network of an integral, in NumPy."""
    slopes, biases = np.asarray(bijection.slopes), np.asarray(bijection.biases)
    t = np.clip(t, -bijection.bound, bijection.bound)
    return positive(np.tanh(np.multiply.outer(t, slopes) + biases) @ np.asarray(bijection.weights) + bijection.offset)


@pytest.mark.parametrize("seed", range(3))
def test_integral_of_the_spline_of_the_network(seed):
    """SciPy's B-spline with the network's values as coefficients, and its integral from 0."""
    bijection = moved(bj.IntegralNetwork, seed, 3.0)
    n, bound = bijection.nodes, bijection.bound
    width = 2 * bound / n
    knots = -bound + width * np.arange(-3, n + 4)
    centres = -bound + width * (np.arange(-1, n + 1) + 0.5)
    samples = integrand(bijection, np.clip(centres, centres[1], centres[-2]))
    # One more coefficient on each side, because the slope is constant outside.
    spline = BSpline(knots, np.concatenate([samples[:1], samples, samples[-1:]]), 2)
    (x, log_det, _), _ = evaluate(bijection, POINTS)
    inside = np.clip(POINTS, -bound, bound)
    np.testing.assert_allclose(log_det, np.log(spline(inside)), rtol=1e-10, atol=1e-10)
    breaks = knots[3:-3]
    for u, v, got in zip(POINTS, inside, x, strict=True):
        between = breaks[(min(0, v) < breaks) & (breaks < max(0, v))]
        integral = quad(spline, 0, v, points=between if between.size else None, epsabs=1e-12, limit=200)[0]
        np.testing.assert_allclose(got, bijection.loc + integral + (u - v) * spline(v), rtol=1e-10, atol=1e-10)


def test_integral_of_the_network_in_the_limit_of_many_nodes():
    """The error is proportional to the square of the cell width."""
    errors, points = [], POINTS[np.abs(POINTS) < 5]
    for nodes in (32, 128):
        bijection = randomize(bj.IntegralNetwork(nodes=nodes), jr.key(3), 1.0)
        exact = [quad(lambda t, b=bijection: integrand(b, t), 0, u, epsabs=1e-9, limit=200)[0] for u in points]
        x = jax.jit(jax.vmap(bijection.forward))(points)
        errors.append(np.max(np.abs(x - bijection.loc - np.array(exact))))
    assert errors[1] < 1e-3
    assert errors[1] < errors[0] / 10


def test_integral_has_two_derivatives_at_knots_and_ends():
    bijection = moved(bj.IntegralNetwork, 1)
    knots = np.linspace(-5, 5, 33)

    @jax.jit
    def derivatives(u):
        slope = jax.grad(bijection.forward)
        return jax.vmap(bijection.forward)(u), jax.vmap(slope)(u), jax.vmap(jax.grad(slope))(u)

    for left, at, right in zip(*(derivatives(knots + d) for d in (-1e-9, 0.0, 1e-9)), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)
        np.testing.assert_allclose(at, right, atol=1e-6)


@kinds
def test_map_over_parameters_equals_a_loop(kind):
    """As conditioners use them: a different bijection for each number, along the last axis."""
    many = [moved(kind, seed, 1.0) for seed in range(len(POINTS))]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves, -1), *many)
    got = eqx.filter_jit(map_scalars)(lambda b, u: b.forward_and_log_det(u), stacked, jnp.asarray(POINTS))
    values = [evaluate(b, POINTS)[0] for b in many]
    np.testing.assert_allclose(got[0], [x[i] for i, (x, _, _) in enumerate(values)], rtol=1e-12)
    np.testing.assert_allclose(got[1], [log_det[i] for i, (_, log_det, _) in enumerate(values)], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bj.DeepSigmoidal(1), r"2 or more units.* got units \(1,\)"),
        (lambda: bj.DeepSigmoidal(spread=0.0), "positive, finite spread, but got .* spread=0.0"),
        (lambda: bj.DeepSigmoidal(spread=float("nan")), "spread=nan"),
        (lambda: bj.MonotoneNetwork(()), r"got units \(\)"),
        (lambda: bj.MonotoneNetwork((4, 1)), r"got units \(4, 1\)"),
        (lambda: bj.MonotoneNetwork(spread=float("inf")), "spread=inf"),
        (lambda: bj.MonotoneNetwork(activation=jnp.cbrt), "steepest slope of activation cbrt is not known"),
        (lambda: bj.MonotoneNetwork(activation=jnp.sin, max_slope=1.0), "slopes from 0 to max_slope=1.0"),
        (lambda: bj.IntegralNetwork(0), "units=0"),
        (lambda: bj.IntegralNetwork(nodes=31), "even number of nodes .* nodes=31"),
        (lambda: bj.IntegralNetwork(nodes=0), "nodes=0"),
        (lambda: bj.IntegralNetwork(bound=-1.0), "bound=-1.0"),
        (lambda: bj.IntegralNetwork(bound=float("nan")), "bound=nan"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
