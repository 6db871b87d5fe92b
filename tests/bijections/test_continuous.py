"""Continuous bijections: against closed forms; failures of the solver give NaN."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.scipy
import numpy as np
import pytest

import pushforward as pf
from products import first
from pushforward.bijections import Continuous
from pushforward.bijections.continuous import _transport, _transport_and_trace
from pushforward.testing import randomize

KEY = jr.key(0)


def moved(*args, scale=1.0, **kwargs):
    return randomize(Continuous(*args, key=KEY, **kwargs), jr.key(5), scale)


@pytest.mark.conformance
def test_conformance():
    b = Continuous(3, (8, 8), cond_dim=2, key=KEY)
    pf.testing.check_bijection(b, key=KEY, scales=(0.1, 1.0, 3.0), tolerance=1e-7, num_points=4)


@pytest.mark.conformance
def test_conformance_float32():
    with jax.enable_x64(False):
        b = Continuous(1, (8,), key=KEY)
        pf.testing.check_bijection(b, key=KEY, scales=(0.1, 1.0, 3.0), num_points=4)


def linear(matrix, rtol=None):
    """A field without hidden layers and with weight 0 for time: dz/dt = A z + b."""
    dim = len(matrix)
    b = Continuous(dim, (), key=KEY, rtol=rtol, atol=rtol)
    return eqx.tree_at(lambda b: b.network.weights, b, (jnp.concatenate([jnp.zeros((dim, 1)), matrix], axis=1),))


@pytest.mark.parametrize(("rtol", "accuracy"), first((None, 1e-9), (1e-5, 1e-4)))
def test_linear_field_is_the_matrix_exponential(rtol, accuracy):
    matrix = jnp.array([[0.3, -1.5, 0.2], [1.0, 0.1, 0.0], [0.5, 0.7, -0.9]])
    b, u = linear(matrix, rtol), jr.normal(KEY, (3,))
    flow = jax.scipy.linalg.expm(matrix)
    x, log_det = b.forward_and_log_det(u)
    np.testing.assert_allclose(x, flow @ u, rtol=accuracy)
    np.testing.assert_allclose(log_det, jnp.trace(matrix), rtol=accuracy)
    np.testing.assert_allclose(b.inverse(x), u, rtol=10 * accuracy)
    np.testing.assert_allclose(jax.jacfwd(b.forward)(u), flow, atol=accuracy)
    np.testing.assert_allclose(jax.jacrev(b.forward)(u), flow, atol=accuracy)
    # The score of N(0, I) is mapped to that of its image, N(0, F F^T).
    score = b.push_score(u, -u)[2]
    np.testing.assert_allclose(score, -np.linalg.solve(flow @ flow.T, x), atol=10 * accuracy)


def test_gradients_by_parameters_are_those_of_the_matrix_exponential():
    matrix = jnp.array([[0.3, -1.5], [1.0, 0.1]])
    u, weights = jnp.array([0.5, -2.0]), jnp.array([1.0, 3.0])

    def by_solver(matrix):
        x, log_det = linear(matrix).forward_and_log_det(u)
        return weights @ x + log_det

    def exactly(matrix):
        return weights @ jax.scipy.linalg.expm(matrix) @ u + jnp.trace(matrix)

    np.testing.assert_allclose(jax.jit(jax.grad(by_solver))(matrix), jax.grad(exactly)(matrix), rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(by_solver))(matrix), jax.grad(exactly)(matrix), rtol=1e-9)


def test_separable_field_in_time():
    """dz/dt = tanh(t) gives x = u + log cosh 1 and the log-determinant 0."""
    b = Continuous(1, (1,), key=KEY)
    b = eqx.tree_at(lambda b: b.network.weights, b, (jnp.array([[1.0, 0.0]]), jnp.ones((1, 1))))
    x, log_det = b.forward_and_log_det(jnp.array([0.7]))
    np.testing.assert_allclose(x, 0.7 + np.log(np.cosh(1.0)), rtol=1e-10)
    assert log_det == 0


@pytest.mark.parametrize("hidden", [(), (6,), (6, 5), (6, 5, 4)])
def test_trace_is_that_of_the_jacobian(hidden):
    b = moved(3, hidden, cond_dim=2)
    z, condition, t = jr.normal(KEY, (3, 4)), jr.normal(KEY, (2, 1)), jnp.array(0.3)
    rate, trace = _transport_and_trace(t, z, (b.network, condition, None))
    np.testing.assert_allclose(rate, _transport(t, z, (b.network, condition, None))[0], rtol=1e-13)
    jacobians = jax.vmap(
        jax.jacfwd(lambda z: _transport(t, z, (b.network, condition[:, 0], None))[0]), in_axes=-1, out_axes=-1
    )(z)
    np.testing.assert_allclose(trace, np.trace(jacobians), rtol=1e-12)


def test_starts_as_the_identity():
    u = jr.normal(KEY, (4,))
    x, log_det = Continuous(4, key=KEY).forward_and_log_det(u)
    np.testing.assert_array_equal(x, u)
    assert log_det == 0


@pytest.mark.conformance
def test_hutchinson_is_unbiased():
    """Means over keys of value and gradients (of a weight, of the point) are within 4 standard errors."""
    b, u, size = moved(4, (6, 6), scale=2.0, rtol=1e-5, atol=1e-5, hutchinson=True), jr.normal(KEY, (4,)), 1000

    def value(b, u, key):
        return b.forward_and_log_det(u, key=key)[1]

    def both(b, u, key):
        log_det, (by_b, by_u) = eqx.filter_value_and_grad(lambda bu: value(*bu, key))((b, u))
        return log_det, by_u, by_b.network.biases[0]

    exact = both(b, u, None)
    got = jax.jit(jax.vmap(lambda key: both(b, u, key)))(jr.split(jr.key(1), size))
    for expected, values in zip(exact, got, strict=True):
        error = np.std(values, axis=0) / size**0.5
        assert np.all(error > 0)
        assert np.max(np.abs(np.mean(values, axis=0) - expected) / error) < 4
    # With one key, the noise is the same: the point does not depend on it, and both directions agree.
    x, log_det = b.forward_and_log_det(u, key=KEY)
    np.testing.assert_allclose(x, b.forward(u), atol=1e-3)
    np.testing.assert_allclose(b.inverse_and_log_det(x, key=KEY)[1], -log_det, atol=1e-2)


@pytest.mark.parametrize("method", ["forward_and_log_det", "push_score"])
def test_batched_is_vmap(method):
    b = moved(2, (8, 8), cond_dim=2)
    arrays = tuple(jr.normal(k, (2, 7)) for k in jr.split(KEY, 2 if method == "push_score" else 1))
    condition = jr.normal(KEY, (2, 7))
    batch = b.push_score_batch if method == "push_score" else b.forward_batch
    got = batch(*arrays, condition)
    expected = jax.vmap(getattr(b, method), in_axes=-1, out_axes=-1)(*arrays, condition)
    for a, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, e, atol=1e-8)


def test_gradients_of_a_batch_are_the_sum_of_those_of_its_events():
    """Path gradients, which flow only through `x` of `push_score`, equal those of forward."""
    b, u, weights = moved(2, (4,), rtol=1e-9, atol=1e-9), jr.normal(KEY, (2, 5)), jr.normal(jr.key(1), (2, 5))

    def batch(b, log_det_weight):
        x, log_det = b.forward_batch(u)
        return jnp.sum(weights * x) + log_det_weight * jnp.sum(log_det)

    def one_by_one(b, log_det_weight):
        x, log_det = jax.vmap(b.forward_and_log_det, in_axes=-1, out_axes=-1)(u)
        return jnp.sum(weights * x) + log_det_weight * jnp.sum(log_det)

    def path(b, log_det_weight):
        x, log_det, _ = b.push_score_batch(u, -u)
        return jnp.sum(weights * x) + log_det_weight * jnp.sum(log_det)

    gradients = [eqx.filter_jit(eqx.filter_grad(f)) for f in (batch, one_by_one, path)]
    for log_det_weight in jnp.array([0.0, 1.0]):
        expected, *others = (gradient(b, log_det_weight) for gradient in gradients)
        for other in others:
            for e, o in zip(jax.tree.leaves(expected), jax.tree.leaves(other), strict=True):
                np.testing.assert_allclose(o, e, atol=1e-6)


def test_failure_is_nan():
    b, u = moved(2, (8,), scale=3.0, max_steps=3), jnp.ones(2)
    for value in (*b.forward_and_log_det(u), *b.inverse_and_log_det(u), *b.push_score(u, -u)):
        assert np.isnan(value).all()
    gradient = eqx.filter_grad(lambda b: b.forward(u).sum())(b)
    assert all(np.isnan(g).all() for g in jax.tree.leaves(gradient))
    assert np.isnan(jax.jacfwd(b.forward)(u)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_events_that_are_not_finite_leave_the_others_alone(bad):
    b, u = moved(2, (8,)), jr.normal(KEY, (2, 3))
    x, log_det = b.forward_batch(u.at[0, 1].set(bad))
    assert np.isnan(x[:, 1]).all()
    assert np.isnan(log_det[1])
    expected, expected_log_det = b.forward_batch(u)
    np.testing.assert_allclose(x[:, ::2], expected[:, ::2], atol=1e-8)
    np.testing.assert_allclose(log_det[::2], expected_log_det[::2], atol=1e-8)
    # A sum over events with a NaN is NaN.
    gradient = eqx.filter_grad(lambda b: b.forward_batch(u.at[0, 1].set(bad))[0].sum())(b)
    assert all(np.isnan(g).all() for g in jax.tree.leaves(gradient))


def test_second_derivatives_raise():
    b = moved(2, (8,))
    with pytest.raises(NotImplementedError, match="second derivatives"):
        jax.hessian(lambda u: b.forward(u).sum())(jnp.ones(2))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Continuous(0, key=KEY), "dim=0"),
        (lambda: Continuous(2, cond_dim=0, key=KEY), "cond_dim=0"),
        (lambda: Continuous(2, (4, 0), key=KEY), r"hidden=\(4, 0\)"),
        (lambda: Continuous(2, key=KEY, rtol=0.0), "rtol=0.0"),
        (lambda: Continuous(2, key=KEY, atol=-1.0), "atol=-1.0"),
        (lambda: Continuous(2, key=KEY, max_steps=0), "max_steps=0"),
        (lambda: Continuous(2, key=KEY, solver=diffrax.Euler()), "Euler"),
    ],
)
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_events_that_are_not_finite_leave_the_gradients_of_others_alone():
    flow = randomize(pf.flows.continuous(2, key=jr.key(0), hidden=(8,)), jr.key(1), 0.5)
    x = jr.normal(jr.key(2), (3, 2))
    gradient = eqx.filter_jit(jax.grad(lambda x: flow.log_prob(x).sum()))
    found = gradient(x.at[1, 0].set(jnp.nan))
    assert jnp.isnan(found[1]).all()
    np.testing.assert_allclose(found[::2], gradient(x)[::2], rtol=1e-6)
