"""Every bijection passes the conformance suite, and the suite catches broken bijections."""

import functools
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings, strategies as st
from numpyro.distributions import constraints

import pushforward as pf
from cases import CASES, CATALOGUE, TOLERANCES
from products import few
from pushforward import bijections as bj
from pushforward.bijections.base import push_score_scalar
from pushforward.bijections.positive import positive
from pushforward.testing import check_bijection, randomize

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


@pytest.mark.parametrize(
    ("bijection", "event", "condition", "message"),
    [
        (bj.Radial(4, key=jr.key(0)), (1,), None, r"Radial takes an event of shape \(4,\), but got shape \(1,\)\.$"),
        (bj.Affine(), (3,), None, r"Affine .* shape \(\), but got shape \(3,\); for a batch use jax.vmap"),
        (bj.Contractive(3, key=jr.key(0)), (5, 3), None, r"shape \(3,\), but got shape \(5, 3\); for a batch"),
        (bj.Elementwise(bj.Affine(), 3), (3, 3), None, r"shape \(3,\), but got shape \(3, 3\); for a batch"),
        (bj.Triangular(3), (3, 5), None, r"shape \(3,\), but got shape \(3, 5\)\.$"),
        (CATALOGUE["coupling affine"](3, jr.key(0)), (3,), None, r"needs a condition of shape \(2,\), but got none"),
        (CATALOGUE["coupling affine"](3, jr.key(0)), (3,), (3,), r"a condition of shape \(2,\), but got shape \(3,\)"),
        (CATALOGUE["amortized"](3, jr.key(0)), (3,), (2, 2), r"Amortized takes a condition of shape \(2,\)"),
    ],
)
def test_other_shapes_are_refused(bijection, event, condition, message):
    condition = None if condition is None else jnp.zeros(condition)
    for method in ("forward_and_log_det", "inverse_and_log_det", "forward", "inverse"):
        with pytest.raises(ValueError, match=message):
            getattr(bijection, method)(jnp.zeros(event), condition)
    with pytest.raises(ValueError, match=message):
        bijection.push_score(jnp.zeros(event), jnp.zeros(event), condition=condition)


def test_random_parameters_are_as_large_wherever_they_are():
    """Vectors that are stacked along layers and coordinates do not count as matrices."""
    layers = [bj.Elementwise(bj.RationalQuadraticSpline(bins=50), 40) for _ in range(3)]
    for tree, attribute in ((layers[0], "scalars"), (bj.Scan(layers), "stacked")):
        raw = randomize(tree, jr.key(0), 3.0)
        for leaf in jax.tree.leaves(getattr(raw, attribute)):
            np.testing.assert_allclose(leaf.std(), 3.0, rtol=0.1)
    network = randomize(bj.Scan([bj.Coupling(bj.Affine(), 8, key=jr.key(0))] * 9), jr.key(0), 1.0).stacked.network
    np.testing.assert_allclose([network.weights[-1].std() * 8, network.biases[-1].std()], 1.0, rtol=0.15)


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
    "wrong_factor_unseen_at_first": (LogDetTimes(2.0, 2.0, scale=1.0), "moved by 1.0 .* log_det against the automatic"),
    "wrong_sign_of_inverse": (LogDetTimes(1.0, -1.0), "inverse_log_det against the automatic Jacobian"),
    "wrong_inverse": (WrongInverse(), "round trip"),
    "not_the_whole_line": (HalfLine(), "not finite"),
    "slope_zero_at_zero": (SlopeZeroAtZero(), "log_det against the automatic Jacobian"),
    "no_gradient_at_zero": (NoGradientAtZero(), r"not finite at \[0\.\]"),
    "no_gradient_by_array": (NoGradientByArray(), "gradient by .extra is not finite"),
    "unused_array": (WithExtra(), ".extra gets no gradient from forward"),
    "detached_inverse": (DetachedInverse(), ".extra gets no gradient from inverse"),
    "function_leaf": (FunctionLeaf(), "fields must hold arrays, or be static"),
    "unhashable_static": (UnhashableStatic(), "static fields must be hashable"),
    "wrong_gradient_of_inverse": (WrongGradientOfInverse(), r"derivative of inverse\(forward\(u\)\)"),
    "detached_condition": (DetachedCondition(), "derivative of .* by arrays and condition"),
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


# Initial values, and batches.

forward = eqx.filter_jit(lambda bijection, u, condition=None: bijection.forward_and_log_det(u, condition))

IDENTITIES = [
    *(n for n in CASES if n not in ("chain", "chain_conditional", "scan", "permutation") and "affine" not in n)
]


@pytest.mark.parametrize("name", IDENTITIES)
def test_begins_as_the_identity(name):
    bijection = CASES[name](4, jr.key(0))
    u = 2 * jr.normal(jr.key(1), (4,))
    condition = None if bijection.cond_shape is None else jnp.ones(bijection.cond_shape)
    x, log_det = forward(bijection, u, condition)
    np.testing.assert_allclose(x, u, atol=1e-13)
    np.testing.assert_allclose(log_det, 0.0, atol=1e-13)


@pytest.mark.parametrize("recipe", ["realnvp", "nsf", "maf", "iaf"])
def test_recipes_begin_as_permutations(recipe):
    flow = getattr(pf.flows, recipe)(dim=4, key=jr.key(0), hidden=(8,), num_layers=3)
    u = jr.normal(jr.key(1), (4,))
    x, log_det = forward(flow.bijection, u)
    np.testing.assert_allclose(jnp.sort(x), jnp.sort(u), atol=1e-13)
    np.testing.assert_allclose(log_det, 0.0, atol=1e-13)
    np.testing.assert_allclose(flow.base.log_prob(x) - log_det, flow.base.log_prob(u), atol=1e-12)


@eqx.filter_jit
def batched_and_mapped(bijection, u, score, condition, axis):
    batched = bijection.push_score_batch(u, score, condition)
    mapped = jax.vmap(bijection.push_score, in_axes=(-1, -1, axis), out_axes=-1)(u, score, condition)
    return batched, mapped


@pytest.mark.parametrize("name", [n for n in CASES if "spline" not in n or "elementwise" in n])
def test_batched_is_vmap(name):
    """With one condition, and with one for each event; `check_bijection` tests the two other methods."""
    bijection = randomize(CASES[name](3, jr.key(0)), jr.key(1), 1.0)
    u, score = jr.normal(jr.key(2), (2, 3, 4))
    conditions = [(None, None)]
    if bijection.cond_shape is not None:
        condition = jr.normal(jr.key(3), (*bijection.cond_shape, 4))
        conditions = [(condition[..., 0], None), (condition, -1)]
    for condition, axis in conditions:
        batched, mapped = batched_and_mapped(bijection, u, score, condition, axis)
        assert [a.shape for a in batched] == [a.shape for a in mapped]
        for got, expected in zip(batched, mapped, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", [bj.Coupling, bj.MaskedAutoregressive, bj.RecurrentAutoregressive, None])
def test_parts_without_a_condition_beside_parts_with_one(kind):
    """In a chain and in `Amortized`, they ignore the condition; a part that needs one raises an error without it."""
    part = bj.Continuous(3, (4,), key=jr.key(0)) if kind is None else kind(bj.Affine(), 3, hidden=(4,), key=jr.key(0))
    part = randomize(part, jr.key(1), 0.5)
    conditional = bj.Coupling(bj.Affine(), 3, hidden=(4,), cond_dim=2, key=jr.key(2))
    u, condition = jnp.array([0.3, -1.0, 0.7]), jnp.ones(2)
    x, log_det = bj.Chain([part, conditional]).forward_and_log_det(u, condition)
    expected, expected_log_det = part.forward_and_log_det(u)
    np.testing.assert_allclose(x, expected, rtol=1e-9)
    np.testing.assert_allclose(log_det, expected_log_det, atol=1e-9)
    network = bj.MLP(2, bj.num_parameters(part), (4,), key=jr.key(3))
    np.testing.assert_allclose(bj.Amortized(part, network, (2,)).forward(u, condition), expected, rtol=1e-9)
    with pytest.raises(ValueError, match=r"needs a condition of shape \(2,\)"):
        conditional.forward(u)


def test_intervals_that_differ_by_coordinate_are_not_reordered():
    uneven = bj.OntoBox([constraints.unit_interval, constraints.positive])
    swap = bj.Permutation([1, 0])
    for parts in ([uneven, swap], [swap, bj.Invert(uneven)], [uneven, swap, bj.Invert(uneven)]):
        with pytest.raises(ValueError, match="not the same for all coordinates"):
            bj.Chain(parts)
    even = bj.Chain([bj.OntoBox([constraints.positive] * 2), swap, bj.Scan([swap, swap])])
    assert np.all(even.codomain.lower_bound == 0)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_scales_of_any_size_in_float32(scale):
    with jax.enable_x64(False):
        affine = bj.Affine(0.0, scale)
        x, log_det = affine.forward_and_log_det(jnp.array(2.0))
        np.testing.assert_allclose(x, 2 * scale, rtol=1e-5)
        np.testing.assert_allclose(log_det, np.log(scale), rtol=1e-5)
        np.testing.assert_allclose(affine.inverse(x), 2.0, rtol=1e-5)
        slope = jax.grad(lambda raw: positive(raw))(affine.raw_scale)
        np.testing.assert_allclose(slope, 1.0 if scale > 1 else float(scale) ** 2, rtol=1e-4, atol=1e-38)


def rescaled(loc, scale):
    coupling = bj.Coupling(bj.Affine(), 3, cond_dim=2, hidden=(4,), key=jr.key(0))
    return bj.RescaledCondition(randomize(coupling, jr.key(1), 1.0), loc, scale)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: bj.Affine(jnp.zeros(3)), r"loc of a scalar bijection must be one number, but has shape \(3,\)"),
        (lambda: bj.Shift(jnp.nan), "loc must be finite, got loc=nan"),
        (lambda: bj.SinhArcsinh(jnp.ones(3)), "skew of a scalar bijection must be one number"),
        (lambda: bj.IntegralNetwork(loc=jnp.zeros(3)), "loc of a scalar bijection must be one number"),
        (lambda: bj.Triangular(2, matrix=jnp.array([[1.0, 0.0], [jnp.inf, 1.0]])), "must be finite"),
        (lambda: bj.PLU(0, key=jr.key(0)), "positive whole numbers"),
        (lambda: bj.QR(2.0, key=jr.key(0)), "positive whole numbers"),
        (lambda: pf.flows.realnvp(2, num_layers=1.5, key=jr.key(0)), "whole numbers.* num_layers=1.5"),
        (lambda: bj.RecurrentAutoregressive(bj.Affine(), 2, hidden=8, key=jr.key(0)), "widths .* hidden=8"),
        (lambda: bj.MaskedAutoregressive(bj.Affine(), 2, ordering=2, key=jr.key(0)), "ordering must contain each of"),
        (lambda: bj.Permutation([1.0, 0.0]), "permutation"),
        (lambda: bj.Triangular(0), "positive"),
        (lambda: bj.QR(0, key=jr.key(0)), "positive"),
        (lambda: bj.Elementwise(bj.Affine(), 0), "positive"),
        (lambda: bj.QuadraticSpline(2), "bins >= 3"),
        (lambda: bj.MonotoneNetwork(8), "layers of 2 or more"),
        (lambda: bj.Planar(2, activation=jnp.tanh, max_slope=jnp.inf, key=jr.key(0)), "positive and finite"),
        (lambda: bj.PowerSeries(2.5), "positive whole numbers, but got terms=2.5"),
        (lambda: bj.RussianRoulette(1.5), "exact_terms=1.5"),
        (lambda: bj.Orthogonal(3, 1.5, key=jr.key(0)), "num_reflections=1.5"),
        (lambda: bj.Orthogonal(3, 4, key=jr.key(0)), "num_reflections must be in 1, ..., dim"),
        (lambda: bj.TriangularSylvester(3, 2, num_reflections=1.5, key=jr.key(0)), "num_reflections .* got 1.5"),
        (lambda: bj.Sylvester(3, 1.5, key=jr.key(0)), "num_units=1.5"),
        (lambda: bj.DeepSigmoidal(2.5), r"2 or more units.* got units \(2.5,\)"),
        (lambda: bj.IntegralNetwork(2.5), "units=2.5"),
        (lambda: bj.CircularSpline(1), "bins >= 2"),
        (lambda: bj.RationalQuadraticSpline(4, 1e300), "positive, finite bound, but got bins=4, bound=1e\\+300"),
        (lambda: bj.OntoCircles(bj.Identity((1,)), [(1.0, 0.0)]), r"two finite ends, .*\(1.0, 0.0\)"),
        (lambda: bj.Amortized(bj.Affine(), lambda c: c, 2), "tuple of sizes, as .* but got 2"),
        (lambda: rescaled((0.0, 0.0), (1.0, 0.0)), "scale positive and finite"),
        (lambda: rescaled((0.0, jnp.nan), (1.0, 1.0)), "loc must be finite"),
        (lambda: bj.Continuous(2, max_steps=2.5, key=jr.key(0)), "max_steps=2.5"),
        (lambda: pf.flows.planar(2, cond_dim=1.5, key=jr.key(0)), "cond_dim=1.5"),
        (lambda: pf.flows.realnvp(2, hidden=64, key=jr.key(0)), "widths of hidden layers.*hidden=64"),
    ],
)
def test_refused_parts(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: bj.Chain([bj.Affine]), r"Chain takes bijections, but got .*write Affine\(\.\.\.\)"),
        (lambda: bj.Scan([bj.Affine(), "affine"]), "Scan takes bijections, but got 'affine'"),
        (lambda: bj.Elementwise(bj.Affine, 2), "takes bijections, but got"),
        (lambda: pf.Flow(dist.Normal(), bj.Affine), "Flow takes bijections, but got"),
        (lambda: pf.Flow(0.0, bj.Affine()), "NumPyro distribution or Learnable, but is 0.0"),
        (lambda: bj.Contractive(2, log_det=bj.PowerSeries, key=jr.key(0)), r"instance such as PowerSeries\(\)"),
        (lambda: bj.Frozen(bj.Affine), "Frozen takes bijections"),
        (lambda: bj.Affine().forward(1j), "real numbers, but got complex"),
    ],
)
def test_what_is_no_bijection_is_named(make, match):
    with pytest.raises(TypeError, match=match):
        make()


def test_a_discrete_base_is_refused():
    with pytest.raises(ValueError, match="must be continuous, but Poisson"):
        pf.Flow(dist.Poisson(1.0), bj.Affine())


@pytest.mark.parametrize("scale", [1e-39, 1e39])
def test_numbers_are_looked_at_in_their_own_precision(scale):
    with jax.enable_x64(False), pytest.raises(ValueError, match="got scale=1e.*in float32"):
        bj.Affine(0.0, scale)
    assert float(bj.Affine(0.0, scale).scale) == pytest.approx(scale)


@pytest.mark.parametrize(
    "event", [[1, 2], np.array([1, 2]), np.array([1.0, 2.0], np.float32), jnp.array([1.0, 2.0], jnp.bfloat16)], ids=repr
)
def test_numbers_of_any_kind_are_events(event):
    """Also with root searches, whose loops need a fixed dtype."""
    for scalar in (bj.Affine(), bj.DeepSigmoidal(4), bj.RationalQuadraticSpline(4)):
        layer = bj.Elementwise(scalar, 2)
        for method in (layer.forward, layer.inverse):
            found = method(event)
            assert found.dtype == jnp.float64
            np.testing.assert_array_equal(found, method(jnp.array([1.0, 2.0])))
    assert bj.Affine(1.0, 2.0).inverse(5) == 2.0


def test_conditions_of_any_kind_and_events_by_name():
    layer, u = rescaled((0.5, 1.5), (0.5, 2.5)), jnp.ones(3)
    expected = layer.forward_and_log_det(u, jnp.array([1.0, 0.0]))
    for condition in ([1, 0], np.array([1, 0]), np.array([True, False])):
        for found in (
            layer.forward_and_log_det(u, condition),
            layer.forward_and_log_det(condition=condition, u=[1, 1, 1]),
        ):
            jax.tree.map(np.testing.assert_array_equal, found, expected)
        x, _ = layer.batched.forward_and_log_det(u[None], condition)
        np.testing.assert_allclose(x[0], expected[0])
    with pytest.raises(ValueError, match=r"shape \(3,\), but got shape \(3, 3\)"):
        bj.Elementwise(bj.Affine(), 3).forward_and_log_det(u=jnp.ones((3, 3)))
    flow = pf.Flow(dist.Normal(jnp.zeros(3)).to_event(1), layer)
    np.testing.assert_allclose(flow.log_prob([1, 1, 1], [1, 0]), flow.log_prob(u, jnp.array([1.0, 0.0])))


def test_a_condition_of_more_precision_than_the_parameters():
    """The loops of numerical inverses need a fixed dtype."""
    with jax.enable_x64(False):
        layers = [
            bj.Contractive(2, (4,), cond_dim=1, key=jr.key(0)),
            bj.RecurrentAutoregressive(bj.Affine(), 2, hidden=(4,), cond_dim=1, key=jr.key(0)),
            bj.MaskedAutoregressive(bj.Affine(), 2, hidden=(4,), cond_dim=1, key=jr.key(0)),
        ]
    for layer in layers:
        for method in (layer.forward, layer.inverse):
            assert method(jnp.ones(2, jnp.float32), jnp.ones(1)).dtype == jnp.float64


def test_gradients_far_out_in_float32():
    with jax.enable_x64(False):
        box = bj.OntoBox([constraints.positive, constraints.real, constraints.less_than(1.0)])
        radial = randomize(bj.Radial(3, key=jr.key(0)), jr.key(1), 1.0)
        for layer, size in ((box, 200.0), (radial, 1e30)):
            for u in (jnp.full(3, size), jnp.full(3, -size)):
                gradients = jax.jacrev(layer.forward_and_log_det)(u)
                assert all(np.isfinite(g).all() for g in gradients), (layer, u)
                x = layer.forward(u)
                assert all(np.isfinite(g).all() for g in jax.jacrev(layer.inverse_and_log_det)(x))


def test_layers_without_arrays_are_repeated_too():
    layers = bj.Scan([bj.Elementwise(bj.LeakyReLU(0.5), 2)] * 3)
    assert len(layers) == 3
    np.testing.assert_allclose(layers.forward(jnp.array([-8.0, 8.0])), [-1.0, 8.0])


def test_which_inverses_are_iterative():
    key = jr.key(0)
    masked = bj.MaskedAutoregressive(bj.Affine(), 2, key=key)
    for bijection in (masked, bj.Planar(2, key=key), bj.Contractive(2, key=key), bj.Frozen(masked), bj.DeepSigmoidal()):
        assert bijection.numerical_inverse
        assert bj.Chain([bijection]).numerical_inverse
        assert not bj.Invert(bijection).numerical_inverse
    for bijection in (bj.Affine(), bj.Radial(2, key=key), bj.Frozen(bj.Affine()), bj.Coupling(bj.Affine(), 2, key=key)):
        assert not bijection.numerical_inverse


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
