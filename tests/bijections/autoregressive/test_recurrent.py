"""Recurrent autoregressive bijections."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from products import few, first
from pushforward.bijections import Affine, Exp, RationalQuadraticSpline, RecurrentAutoregressive
from pushforward.testing import randomize

KEY = jr.key(0)
TRANSFORMERS = {"affine": lambda: Affine(0.5, 2.0), "spline": lambda: RationalQuadraticSpline(bins=5)}


@pytest.mark.parametrize(
    ("transformer", "dim", "cond_dim", "hidden"),
    first(("affine", 1, None, (8,)), ("spline", 2, 3, (8,))),
)
def test_conformance(transformer, dim, cond_dim, hidden):
    b = RecurrentAutoregressive(TRANSFORMERS[transformer](), dim, hidden=hidden, cond_dim=cond_dim, key=KEY)
    pf.testing.check_bijection(b, key=KEY)


@pytest.mark.conformance
def test_conformance_float32():
    with jax.enable_x64(False):
        b = RecurrentAutoregressive(Affine(), 3, hidden=(8,), cond_dim=2, key=KEY)
        pf.testing.check_bijection(b, key=KEY)


@pytest.mark.parametrize("transformer", few(TRANSFORMERS, "spline"))
def test_jacobian_is_triangular(transformer):
    b = randomize(RecurrentAutoregressive(TRANSFORMERS[transformer](), 5, hidden=(8,), key=KEY), KEY, 1.0)
    u = jr.normal(KEY, (5,))
    for jacobian in (jax.jacfwd(b.forward)(u), jax.jacrev(b.inverse)(b.forward(u))):
        np.testing.assert_array_equal(np.triu(jacobian, 1), 0)
        assert np.all(np.abs(jacobian[np.tril_indices(5)]) > 0)


def test_is_its_formula():
    """One coordinate after the other, with the cell written out (Cho et al., equations 5 to 8, plus a bias)."""
    b = randomize(RecurrentAutoregressive(Affine(), 3, hidden=(4, 6), cond_dim=2, key=KEY), KEY, 1.0)
    u, condition = jr.normal(KEY, (3,)), jnp.array([0.3, -1.2])
    x, log_det = b.forward_and_log_det(u, condition)
    state, previous, cell, total = np.asarray(b.start), 0.0, b.cell, 0.0
    for i in range(3):
        inputs = np.array([previous, i == 0, *condition])
        from_inputs = np.split(cell.weight_ih @ inputs + cell.bias, 3)
        from_state = np.split(cell.weight_hh @ state, 3)
        reset, update = (1 / (1 + np.exp(-(a + b))) for a, b in zip(from_inputs[:2], from_state[:2], strict=True))
        new = np.tanh(from_inputs[2] + reset * (from_state[2] + cell.bias_n))
        state = new + update * (state - new)
        scalar = pf.bijections.shift_arrays(b.transformer, b.head(jnp.asarray(state)))
        expected, log_slope = scalar.forward_and_log_det(u[i])
        np.testing.assert_allclose(x[i], expected, rtol=1e-12)
        previous, total = u[i], total + log_slope
    np.testing.assert_allclose(log_det, total, rtol=1e-12)


@pytest.mark.parametrize("transformer", TRANSFORMERS)
def test_starts_as_the_transformer(transformer):
    scalar = TRANSFORMERS[transformer]()
    u = 2 * jr.normal(KEY, (4,))
    x, log_det = RecurrentAutoregressive(scalar, 4, hidden=(8, 8), key=KEY).forward_and_log_det(u)
    expected, log_slopes = jax.vmap(scalar.forward_and_log_det)(u)
    np.testing.assert_allclose(x, expected, rtol=1e-14)
    np.testing.assert_allclose(log_det, log_slopes.sum(), rtol=1e-14)


@pytest.mark.parametrize(
    ("method", "batch", "condition_axis"),
    [
        ("forward_and_log_det", "forward_batch", -1),
        ("inverse_and_log_det", "inverse_batch", None),
        ("push_score", "push_score_batch", -1),
    ],
)
def test_batched_is_vmap(method, batch, condition_axis):
    b = randomize(RecurrentAutoregressive(Affine(), 3, hidden=(8,), cond_dim=2, key=KEY), KEY, 1.0)
    arrays = tuple(jr.normal(k, (3, 7)) for k in jr.split(KEY, 2 if method == "push_score" else 1))
    condition = jr.normal(KEY, (2,) if condition_axis is None else (2, 7))
    got = getattr(b, batch)(*arrays, condition)
    expected = jax.vmap(getattr(b, method), in_axes=(-1,) * len(arrays) + (condition_axis,), out_axes=-1)(
        *arrays, condition
    )
    for a, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12)


def test_parameters_are_shared():
    few, many = (RecurrentAutoregressive(Affine(), dim, hidden=(8,), key=KEY) for dim in (2, 50))
    assert pf.bijections.num_parameters(few) == pf.bijections.num_parameters(many)


def test_domain_and_codomain_are_the_transformers():
    b = RecurrentAutoregressive(pf.bijections.Chain([Affine(), Exp()]), 3, key=KEY)
    assert b.domain is Exp().domain
    assert b.codomain is Exp().codomain


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RecurrentAutoregressive(Affine(), 0, key=KEY), "dim=0"),
        (lambda: RecurrentAutoregressive(Affine(), 2, cond_dim=0, key=KEY), "cond_dim=0"),
        (lambda: RecurrentAutoregressive(Affine(), 2, hidden=(), key=KEY), r"hidden=\(\)"),
        (lambda: RecurrentAutoregressive(Affine(), 2, hidden=(4, 0), key=KEY), r"hidden=\(4, 0\)"),
        (lambda: RecurrentAutoregressive(pf.bijections.Triangular(2), 2, key=KEY), "Triangular"),
    ],
)
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
