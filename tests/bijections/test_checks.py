"""Arguments that make no bijection are refused; the errors name them."""

import jax.numpy as jnp
import jax.random as jr
import numpyro.distributions as dist
import pytest

import pushforward as pf
from cases import rescaled
from pushforward import bijections as bj


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
        (
            lambda: pf.flows.realnvp(2, num_layers=1.5, key=jr.key(0)),
            "num_layers must be a whole .* 1.5, in realnvp",
        ),
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
        (lambda: pf.flows.planar(2, cond_dim=1.5, key=jr.key(0)), "cond_dim must be a whole number .* 1.5, in planar"),
        (lambda: pf.flows.realnvp(2, hidden=64, key=jr.key(0)), "hidden must be a sequence, but is 64"),
    ],
)
def test_refused_parts(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: bj.Chain([bj.Affine]), r"Chain takes bijections, but got .*write Affine\(\.\.\.\)"),
        (lambda: bj.Scan([bj.Affine(), "affine"]), "Scan takes bijections, but got 'affine'"),
        (lambda: bj.Elementwise(bj.Affine, 2), "takes bijections, but got"),
        (
            lambda: pf.Flow(dist.Normal(), bj.Affine),
            "bijection must be an AbstractBijection, but is the class Affine instead of an instance of it, in Flow",
        ),
        (lambda: pf.Flow(0.0, bj.Affine()), "base must be a Distribution or a Learnable, but is 0.0"),
        (lambda: bj.Contractive(2, log_det=bj.PowerSeries, key=jr.key(0)), r"instance such as PowerSeries\(\)"),
        (lambda: bj.Frozen(bj.Affine), "Frozen takes bijections"),
        (lambda: bj.Affine().forward(1j), "real numbers, but got complex"),
    ],
)
def test_what_is_no_bijection_is_named(make, match):
    with pytest.raises(TypeError, match=match):
        make()
