"""Scalar bijections in closed form: against SciPy, at and beyond the ends of their domains."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special
import scipy.stats

from cases import SCALARS
from pushforward import bijections as bj
from pushforward.bijections.elementwise import MIN_POWER
from pushforward.bijections.intervals import bounds
from pushforward.testing import check_bijection, map_to_domain, randomize

OPTIMIZED = True

# Splines and networks have their own tests.
NAMES = [name for name in SCALARS if "spline" not in name and "network" not in name and name != "deep_sigmoidal"]
names = pytest.mark.parametrize("name", NAMES)
METHODS = ("forward_and_log_det", "inverse_and_log_det")


@eqx.filter_jit
def evaluate(bijection, points, method):
    """Values, log-determinants, and their gradients with respect to the arrays and the point."""

    def output(bijection_and_point, which):
        value, log_det = getattr(bijection_and_point[0], method)(bijection_and_point[1])
        return (value, log_det)[which], (value, log_det)

    def one(point):
        (by_value, found), (by_log_det, _) = (
            eqx.filter_grad(output, has_aux=True)((bijection, point), which) for which in (0, 1)
        )
        return *found, by_value, by_log_det

    return jax.vmap(one)(points)


@names
def test_conformance(name, precision):
    # 0 is one of the points already; powers change their formula there, so points on both sides are added.
    near = jnp.array([-1e-3, 1e-3, -1.0, 1.0])
    bijection = SCALARS[name]()
    tolerance = 1e-9 if precision == "float64" else 1e-5
    points = map_to_domain(bijection.domain, near)
    check_bijection(bijection, key=jr.key(0), scales=(0.0, 0.1, 1.0, 3.0), points=points, tolerance=tolerance)


@names
@pytest.mark.parametrize("method", METHODS)
def test_extreme_points(name, method, precision):
    """Values stay inside and are finite: at the ends of the domain, beyond them and far out."""
    dtype = jnp.result_type(float)
    info = jnp.finfo(dtype)
    sizes = np.array([0.0, info.tiny, info.eps / 2, 1e-3, 0.5, 1.0, np.pi / 2, 2.0, 20.0, 1e3, 1e8, 1e30])
    points = np.concatenate([sizes, -sizes, 1 + np.array([-1, 1]) * info.eps, [np.pi, -1 + info.eps]]).astype(dtype)
    for seed, scale in ((0, 0.0), (1, 1.0)):
        bijection = randomize(SCALARS[name](), jr.key(seed), scale)
        value, log_det, by_value, by_log_det = evaluate(bijection, points, method)
        lower, upper = bounds(bijection.codomain if method == "forward_and_log_det" else bijection.domain)
        assert value.dtype == log_det.dtype == dtype
        assert jnp.isfinite(value).all()
        assert jnp.isfinite(log_det).all()
        assert jnp.all((lower.astype(dtype) < value) & (value < upper.astype(dtype)))
        # Slopes may overflow, but are not NaN; where they are moderate, all gradients are finite.
        gradients = jax.tree.leaves((by_value, by_log_det))
        assert not any(jnp.isnan(leaf).any() for leaf in gradients)
        moderate = jnp.abs(log_det) < 30
        assert all(jnp.isfinite(leaf[moderate]).all() for leaf in gradients)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("exponent", [0.3, 0.622, 0.84, 1.2, 3.0])
def test_gradients_of_a_power_at_the_ends_of_the_floating_point_numbers(exponent, method, precision):
    info = jnp.finfo(jnp.result_type(float))
    found = evaluate(bj.Power(exponent), jnp.array([info.tiny, 2 * info.tiny, info.max]), method)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus", "exp", "arctan"])
def test_slope_where_the_value_is_as_good_as_constant(name, precision):
    """Automatic derivatives agree with the log-determinant; those of the rounded value would be 0."""
    points = jnp.array([-40.0, -20.0, 20.0, 40.0])
    bijection = SCALARS[name]()
    _, log_det, (_, slope), _ = evaluate(bijection, points, "forward_and_log_det")
    np.testing.assert_allclose(slope, jnp.exp(log_det), rtol=1e-5)
    assert jnp.all(slope > 0)


# Golden values.

POINTS = np.array([-30.0, -5.0, -1.3, -1.0, -1e-3, 0.0, 1e-7, 0.2, 1.0, 3.0, 12.0, 30.0])


def jones_pewsey(u, skew=0.5, tail=1.2):
    inner = np.arcsinh(u) * tail + skew
    return np.sinh(inner), np.log(tail * np.cosh(inner) / np.sqrt(1 + u**2))


def yeo_johnson(u, power=0.7):
    return scipy.stats.yeojohnson(u, power), np.where(u < 0, 1 - power, power - 1) * np.log1p(np.abs(u))


GOLDEN = {
    "affine": lambda u: (0.5 + 2 * u, np.log(2) + 0 * u),
    "shift": lambda u: (0.5 + u, 0 * u),
    "exp": lambda u: (np.exp(u), u),
    "softplus": lambda u: (np.logaddexp(0, u), scipy.special.log_expit(u)),
    "sigmoid": lambda u: (scipy.special.expit(u), scipy.stats.logistic.logpdf(u)),
    "tanh": lambda u: (np.tanh(u), -2 * np.log(np.cosh(u))),
    "arctan": lambda u: (np.arctan(u), scipy.stats.cauchy.logpdf(u) + np.log(np.pi)),
    "leaky_relu": lambda u: (np.where(u < 0, 0.1 * u, u), np.where(u < 0, np.log(0.1), 0)),
    "power": lambda u: (u**1.5, np.log(1.5) + 0.5 * np.log(u)),
    "yeo_johnson": yeo_johnson,
    "sinh_arcsinh": jones_pewsey,
}


@names
def test_golden_values(name):
    bijection = SCALARS[name]()
    u = np.asarray(map_to_domain(bijection.domain, POINTS))
    x, log_det, *_ = evaluate(bijection, u, "forward_and_log_det")
    expected, expected_log_det = GOLDEN[name](u)
    # Near 1 SciPy returns 1, which the map never takes.
    np.testing.assert_allclose(x, expected, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(log_det, expected_log_det, rtol=1e-12, atol=1e-12)


INVERSES = {
    "exp": (np.log, [1e-300, 0.3, 7.0, 1e200]),
    "softplus": (lambda x: np.log(np.expm1(x)), [1e-9, 0.3, 7.0, 300.0]),
    "sigmoid": (scipy.special.logit, [1e-300, 1e-9, 0.3, 0.5, 0.999999]),
    "tanh": (np.arctanh, [-0.9999, -1e-9, 0.0, 0.3, 0.999]),
    "arctan": (np.tan, [-1.5, -1e-9, 0.0, 0.3, 1.57]),
    "power": (lambda x: x ** (1 / 1.5), [1e-200, 0.3, 7.0, 1e200]),
    # The map from data to a normal variable: Jones and Pewsey (2009), section 2, with delta = 1/t and epsilon = s/t.
    "sinh_arcsinh": (lambda x: np.sinh(np.arcsinh(x) / 1.2 - 0.5 / 1.2), [-1e9, -2.0, 0.0, 0.3, 1e9]),
}


@pytest.mark.parametrize("name", INVERSES)
def test_golden_values_of_inverses(name):
    formula, x = INVERSES[name]
    u, log_det, *_ = evaluate(SCALARS[name](), np.array(x), "inverse_and_log_det")
    np.testing.assert_allclose(u, formula(np.array(x)), rtol=1e-10)
    again, forward_log_det, *_ = evaluate(SCALARS[name](), u, "forward_and_log_det")
    np.testing.assert_allclose(again, x, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(log_det, -forward_log_det, rtol=1e-10)


@pytest.mark.parametrize("power", [0.02, 0.5, 1.0, 1.5, 1.98])
def test_yeo_johnson_over_its_powers(power):
    bijection = bj.YeoJohnson(power)
    np.testing.assert_allclose(bijection.power, power, rtol=1e-12)
    x, *_ = evaluate(bijection, POINTS, "forward_and_log_det")
    np.testing.assert_allclose(x, scipy.stats.yeojohnson(POINTS, power), rtol=1e-12, atol=1e-15)


def test_yeo_johnson_stays_onto_the_line():
    """No raw number gives a power with a bounded image."""
    for raw in (-1e3, 1e3):
        bijection = eqx.tree_at(lambda b: b.raw_power, bj.YeoJohnson(), jnp.asarray(raw))
        assert MIN_POWER <= bijection.power <= 2 - MIN_POWER
        x, *_ = evaluate(bijection, np.array([-1e30, 1e30]), "forward_and_log_det")
        assert jnp.isfinite(x).all()


def test_constructors_keep_their_arguments():
    np.testing.assert_allclose(bj.Affine(0.5, 2.0).scale, 2.0)
    np.testing.assert_allclose(bj.Power(0.3).exponent, 0.3)
    np.testing.assert_allclose(bj.SinhArcsinh(0.5, 1.2).tail, 1.2)
    np.testing.assert_allclose(bj.LeakyReLU(0.25).slope, 0.25)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bj.Affine(0.0, -1.0), "positive and finite, got scale=-1.0"),
        (lambda: bj.LeakyReLU(0.0), "positive and finite, got slope=0.0"),
        (lambda: bj.LeakyReLU(float("nan")), "slope=nan"),
        (lambda: bj.Power(-1.0), "positive and finite, got exponent=-1.0"),
        (lambda: bj.Power(float("inf")), "exponent=inf"),
        (lambda: bj.YeoJohnson(0.0), "the power must lie in .*, got power=0.0"),
        (lambda: bj.YeoJohnson(2.0), "power=2.0"),
        (lambda: bj.SinhArcsinh(0.0, 0.0), "positive and finite, got tail=0.0"),
        (lambda: bj.SinhArcsinh(tail=float("nan")), "tail=nan"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("scale", [1e-39, 1e39])
def test_numbers_are_looked_at_in_their_own_precision(scale):
    with jax.enable_x64(False), pytest.raises(ValueError, match="got scale=1e.*in float32"):
        bj.Affine(0.0, scale)
    assert float(bj.Affine(0.0, scale).scale) == pytest.approx(scale)
