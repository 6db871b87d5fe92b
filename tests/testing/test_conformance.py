"""The conformance suite: every bijection passes it, and broken ones do not."""

import functools
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cases import CASES, CATALOGUE, PRODUCT, TOLERANCES
from products import few
from pushforward import bijections as bj
from pushforward.bijections.base import push_score_scalar
from pushforward.testing import check_bijection

# Dimensions other than 5; those of `MORE_DIMS` are for `make conformance`.
DIMS = {
    "identity": (1,),
    "permutation": (2,),
    "triangular": (5,),
    "elementwise_affine": (1,),
    "coupling_transformed_head": (1,),
    "chain_conditional": (2,),
    "scan": (2,),
    "amortized": (17,),
    "invert_conditional": (17,),
    "coupling_affine_conditional": (1,),
    "coupling_spline": (2,),
    "masked_autoregressive_affine_conditional": (2,),
}
MORE_DIMS = {
    "identity": (2, 5, 17),
    "permutation": (1, 5, 17),
    "triangular": (1, 2, 17),
    "elementwise_affine": (2, 5, 17),
    "coupling_transformed_head": (5,),
    "invert": (17,),
    "chain": (17,),
    "elementwise_spline": (17,),
    "coupling_affine": (2, 17),
    "masked_autoregressive_affine": (1,),
    "masked_autoregressive_spline": (5,),
    "coupling_spline_conditional": (1,),
    "masked_autoregressive_spline_conditional": (2,),
}


def special_points(dim):
    """Points at, next to and beyond the bounds (3) and first knots (0, 1.5) of the splines, in all coordinates."""
    dtype = jnp.result_type(float)
    at = np.array([-3.0, -1.5, 1.5, 3.0], dtype)
    beside = [np.nextafter(at, dtype.type(to)) for to in (-100.0, 100.0)]
    return jnp.outer(jnp.array([*at, *np.concatenate(beside), -4.0, 50.0]), jnp.ones(dim))


def dims(name):
    """The dimensions of a case, with pytest marks."""
    more = MORE_DIMS.get(name, ())
    yield from ((dim, ()) for dim in DIMS.get(name, () if more else (5,)))
    yield from ((dim, pytest.mark.conformance) for dim in more)


@pytest.mark.parametrize(
    ("name", "dim"),
    [pytest.param(name, dim, id=f"{name}-{dim}", marks=marks) for name in CASES for dim, marks in dims(name)],
)
def test_conformance(name, dim):
    check_bijection(CASES[name](dim, jr.key(0)), key=jr.key(dim), points=special_points(dim))


FLOAT32 = ("chain", "invert_conditional", "elementwise_spline", "coupling_spline", "masked_autoregressive_affine")


@pytest.mark.parametrize("name", few(FLOAT32, "masked_autoregressive_affine"))
def test_conformance_in_float32(name):
    with jax.enable_x64(False):
        check_bijection(CASES[name](5, jr.key(0)), key=jr.key(1), points=special_points(5))


@pytest.mark.conformance
@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(CATALOGUE)),
    dim=st.sampled_from((1, 2, 5, 17)),
    seed=st.integers(0, 2**31 - 1),
    scale=st.sampled_from((0.1, 1.0, 3.0)),
)
def test_conformance_of_any(double, name, dim, seed, scale):
    with jax.enable_x64(double):
        check_any(name, dim, seed, scale)


def check_any(name, dim, seed, scale):
    bijection = CATALOGUE[name](dim, jr.key(seed))
    tolerance = TOLERANCES.get(name) if jax.config.jax_enable_x64 else None
    check_bijection(bijection, key=jr.key(seed + 1), scales=(scale,), num_points=6, tolerance=tolerance)


SCALARS = {"affine": bj.Affine(0.5, 2.0), "spline": bj.RationalQuadraticSpline(3, 2.0), "identity": bj.Identity()}


@pytest.mark.parametrize("scalar", SCALARS.values(), ids=SCALARS)
def test_conformance_of_scalars(scalar):
    check_bijection(scalar, key=jr.key(0), points=jnp.array([-2.0, 2.0, 3.0]))


# Broken bijections: each has one error.


class Scale(bj.AbstractBijection):
    """x = scale u, without an error."""

    scale: jax.Array
    shape: ClassVar[tuple[int, ...]] = ()
    cond_shape: ClassVar[None] = None

    def __init__(self, scale=2.0):
        self.scale = jnp.asarray(scale, dtype=float)

    def _forward(self, u, condition, key):
        return self.scale * u, jnp.log(jnp.abs(self.scale))

    def _inverse(self, x, condition, key):
        return x / self.scale, -jnp.log(jnp.abs(self.scale))


class LogDetTimes(Scale):
    factors: tuple[float, float] = eqx.field(static=True)

    def __init__(self, forward, inverse, scale=2.0):
        super().__init__(scale)
        self.factors = (forward, inverse)

    def _forward(self, u, condition, key):
        x, log_det = super()._forward(u, condition, key)
        return x, self.factors[0] * log_det

    def _inverse(self, x, condition, key):
        u, log_det = super()._inverse(x, condition, key)
        return u, self.factors[1] * log_det


class WrongInverse(Scale):
    def _inverse(self, x, condition, key):
        return x / self.scale + 1e-6, -jnp.log(jnp.abs(self.scale))


class HalfLine(Scale):
    """A logarithm, which is undefined for negative numbers."""

    def _forward(self, u, condition, key):
        return jnp.log(u), -jnp.log(u)


class SlopeZeroAtZero(Scale):
    """The value at 0 is right, but its derivative is that of a constant."""

    def _forward(self, u, condition, key):
        return jnp.where(u == 0, 0.0, self.scale * u), jnp.log(jnp.abs(self.scale))


class NoGradientAtZero(Scale):
    """The value at 0 is right, but the square root of a square is not differentiable there."""

    def _forward(self, u, condition, key):
        return self.scale * jnp.sign(u) * jnp.sqrt(u**2), jnp.log(jnp.abs(self.scale))


class WithExtra(Scale):
    extra: jax.Array

    def __init__(self):
        super().__init__()
        self.extra = jnp.array(0.0)


class NoGradientByArray(WithExtra):
    """The square root of a square is not differentiable at 0, where the array starts."""

    def _forward(self, u, condition, key):
        return self.scale * u + jnp.sqrt(self.extra**2), jnp.log(jnp.abs(self.scale))

    def _inverse(self, x, condition, key):
        return (x - jnp.sqrt(self.extra**2)) / self.scale, -jnp.log(jnp.abs(self.scale))


class DetachedInverse(WithExtra):
    def _forward(self, u, condition, key):
        return self.scale * u + self.extra, jnp.log(jnp.abs(self.scale))

    def _inverse(self, x, condition, key):
        return (x - jax.lax.stop_gradient(self.extra)) / self.scale, -jnp.log(jnp.abs(self.scale))


class FunctionLeaf(Scale):
    function: Callable

    def __init__(self):
        super().__init__()
        self.function = jnp.tanh


class UnhashableStatic(Scale):
    constant: np.ndarray = eqx.field(static=True)

    def __init__(self):
        super().__init__()
        self.constant = np.zeros(2)


class WrongScore(Scale):
    def _push_score(self, u, score, condition):
        x, log_det, score = push_score_scalar(self, u, score)
        return x, log_det, score * self.scale**2


class WrongPushedLogDet(Scale):
    def _push_score(self, u, score, condition):
        x, log_det, score = push_score_scalar(self, u, score)
        return x, -log_det, score


class WrongLogDetShape(Scale):
    def _forward(self, u, condition, key):
        return self.scale * u, jnp.log(jnp.abs(self.scale))[None]


class WrongShape(Scale):
    def _inverse(self, x, condition, key):
        return (x / self.scale)[None], -jnp.log(jnp.abs(self.scale))


class WrongDtype(Scale):
    def _inverse(self, x, condition, key):
        return (x / self.scale).astype(jnp.float32), -jnp.log(jnp.abs(self.scale))


class OtherWhenCompiled(Scale):
    def _forward(self, u, condition, key):
        wrong = 0.0 if isinstance(u, jax.core.Tracer) else 1e-3
        return self.scale * u + wrong, jnp.log(jnp.abs(self.scale))


class WrongGradientOfInverse(Scale):
    def _inverse(self, x, condition, key):
        scale = self.scale**2 / jax.lax.stop_gradient(self.scale)
        return x / scale, -jnp.log(jnp.abs(scale))


class DetachedCondition(bj.AbstractBijection):
    scale: jax.Array = eqx.field(default_factory=lambda: jnp.array(2.0))
    shape: ClassVar[tuple[int, ...]] = ()
    cond_shape: ClassVar[tuple[int, ...]] = ()

    def _forward(self, u, condition, key):
        return u * jnp.exp(self.scale * condition), self.scale * condition

    def _inverse(self, x, condition, key):
        condition = jax.lax.stop_gradient(condition)
        return x * jnp.exp(-self.scale * condition), -self.scale * condition


class OtherInverseWhenCompiled(Scale):
    def _inverse(self, x, condition, key):
        wrong = 0.0 if isinstance(x, jax.core.Tracer) else 1e-3
        return x / self.scale + wrong, -jnp.log(jnp.abs(self.scale))


class WithFunction(Scale):
    function: Callable = eqx.field(static=True)

    def __init__(self):
        super().__init__()
        self.function = lambda x: x


BROKEN = {
    "wrong_sign": (LogDetTimes(-1.0, -1.0), "log_det against the automatic Jacobian"),
    "wrong_factor": (LogDetTimes(2.0, 2.0), "log_det against the automatic Jacobian"),
    "wrong_factor_unseen_at_first": (
        LogDetTimes(2.0, 2.0, scale=1.0),
        "perturbed by 1.0 .* log_det against the automatic",
    ),
    "wrong_sign_of_inverse": (LogDetTimes(1.0, -1.0), "inverse_log_det against the automatic Jacobian"),
    "wrong_inverse": (WrongInverse(), "round trip"),
    "not_the_whole_line": (HalfLine(), "not finite"),
    "slope_zero_at_zero": (SlopeZeroAtZero(), "log_det against the automatic Jacobian"),
    "no_gradient_at_zero": (NoGradientAtZero(), r"not finite at \[0\.\]"),
    "no_gradient_by_array": (NoGradientByArray(), "with respect to .extra is not finite"),
    "unused_array": (WithExtra(), ".extra gets no gradient from forward"),
    "detached_inverse": (DetachedInverse(), ".extra gets no gradient from inverse"),
    "function_leaf": (FunctionLeaf(), "fields must hold arrays, or be static"),
    "unhashable_static": (UnhashableStatic(), "static fields must be hashable"),
    "wrong_gradient_of_inverse": (WrongGradientOfInverse(), r"derivative of inverse\(forward\(u\)\)"),
    "detached_condition": (DetachedCondition(), "derivative of .* with respect to arrays and condition"),
    "other_inverse_when_compiled": (OtherInverseWhenCompiled(), "eager inverse against jit and vmap"),
    "function_without_a_name": (WithFunction(), "a different function each time"),
    "wrong_score": (WrongScore(), "push_score's score"),
    "wrong_pushed_log_det": (WrongPushedLogDet(), "push_score's log_det"),
    "wrong_log_det_shape": (WrongLogDetShape(), "log_det has shape"),
    "wrong_shape": (WrongShape(), "has shape"),
    "wrong_dtype": (WrongDtype(), "dtype"),
    "other_when_compiled": (OtherWhenCompiled(), "eager forward against jit and vmap"),
}


@pytest.mark.parametrize(("broken", "message"), BROKEN.values(), ids=BROKEN)
def test_conformance_catches(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_bijection(broken, key=jr.key(0), num_points=4)


def test_conformance_accepts_the_unbroken():
    check_bijection(Scale(), key=jr.key(0), num_points=4)


@pytest.mark.conformance
def test_random_log_determinants_are_checked():
    class Biased(bj.ExactLogDet):
        def __call__(self, fn, u, args, rate, key):
            noise = 0.0 if key is None else 0.1 + 0.01 * jr.normal(key)
            return super().__call__(fn, u, args, rate, key) + noise

    def contractive(log_det):
        return bj.Contractive(2, (8,), log_det=log_det, key=jr.key(0))

    check = functools.partial(check_bijection, key=jr.key(1), scales=(1.0,), num_points=4)
    check(contractive(bj.RussianRoulette(2)))
    check(contractive(bj.PowerSeries(3)), bias=0.5)

    class Noisy(bj.Contractive):
        @property
        def stochastic(self):
            return True

    noisy = Noisy(2, (8,), log_det=Biased(), key=jr.key(0))
    with pytest.raises(AssertionError, match="mean of forward with a key's log-determinants"):
        check(noisy)


# Products: every bijection, and every transformer with every conditioner, in both precisions and at four scales.

# In float32, parameters perturbed by 3 x standard normal noise make the values of these overflow.
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


@pytest.mark.conformance
@pytest.mark.parametrize("dim", (1, 2, 5, 17))
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_bijection(name, dim, precision):
    check(name, CATALOGUE, dim)


@pytest.mark.conformance
@pytest.mark.parametrize("dim", (2, 5))
@pytest.mark.parametrize("name", PRODUCT)
def test_every_transformer_with_every_conditioner(name, dim, precision):
    check(name, PRODUCT, dim)
