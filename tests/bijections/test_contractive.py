"""Contractive residual bijections: the Lipschitz bound, the inverse, and the log-determinant estimators."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from products import few, first
from pushforward.bijections import Contractive, ExactLogDet, PowerSeries, RussianRoulette
from pushforward.testing import randomize

KEY = jr.key(0)


@pytest.mark.parametrize("case", few([(5, None), (2, 3)], (2, 3)))
def test_conformance(case):
    dim, cond_dim = case
    pf.testing.check_bijection(Contractive(dim, (16, 16), cond_dim=cond_dim, key=KEY), key=KEY)


@pytest.mark.conformance
def test_conformance_float32():
    with jax.enable_x64(False):
        pf.testing.check_bijection(Contractive(3, (16,), key=KEY), key=KEY, scales=(1.0,))


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 1e6])
@pytest.mark.parametrize("activation", [pf.bijections.activations.lipswish, jnp.tanh, jax.nn.silu])
def test_lipschitz_bound_holds_for_any_weights(scale, activation):
    b = randomize(Contractive(6, (32, 8), lipschitz=0.95, activation=activation, key=KEY), KEY, scale)
    spectral = [np.linalg.norm(weight, 2) for weight, _ in b.layers()]
    slope = {jax.nn.silu: 1.1}.get(activation, 1.0)
    assert np.prod(spectral) * slope**2 <= 0.95 * (1 + 1e-12)
    if scale >= 10:
        # The bound is not much larger than necessary.
        assert np.prod(spectral) * slope**2 >= 0.95 * 0.93
    jacobians = jax.vmap(jax.jacfwd(lambda u: b.forward(u) - u))(5 * jr.normal(KEY, (100, 6)))
    assert np.linalg.norm(jacobians, 2, axis=(1, 2)).max() <= 0.95


def test_bound_of_matrices_whose_largest_singular_values_are_equal():
    b = Contractive(8, (8,), key=KEY)
    b = eqx.tree_at(lambda b: b.weights, b, (3 * jnp.eye(8), jnp.zeros((8, 8))))
    assert 0.96 * 0.9**0.5 <= np.linalg.norm(b.layers()[0][0], 2) <= 0.9**0.5
    gradients = jax.grad(lambda weights: eqx.tree_at(lambda b: b.weights, b, weights).layers()[0][0].sum())(b.weights)
    assert all(np.isfinite(g).all() for g in gradients)


def test_starts_as_the_identity():
    u = jr.normal(KEY, (4,))
    x, log_det = Contractive(4, key=KEY).forward_and_log_det(u)
    np.testing.assert_array_equal(x, u)
    assert log_det == 0


@functools.cache
def estimates(estimator):
    """Values and gradients of an estimator for many keys, and the exact values and gradients."""
    b = randomize(Contractive(4, (8,), log_det=estimator, key=KEY), KEY, 3.0)
    u = jr.normal(KEY, (4,))

    def value(b, u, key):
        return b.forward_and_log_det(u, key=key)[1]

    exact = value(b, u, None), eqx.filter_grad(value)(b, u, None).weights[0], jax.grad(value, 1)(b, u, None)

    @jax.jit
    def many(keys):
        def one(key):
            by_u = jax.grad(value, 1)(b, u, key)
            return value(b, u, key), eqx.filter_grad(value)(b, u, key).weights[0], by_u

        return jax.lax.map(one, keys, batch_size=1000)

    return exact, many(jr.split(jr.key(1), 10_000))


@pytest.mark.parametrize(
    ("estimator",), first((RussianRoulette(3, probes=2),), (RussianRoulette(1),), (PowerSeries(60),))
)
def test_estimators_are_unbiased(estimator):
    """Means over 10^4 keys of value and gradients (of a weight, of the point) are within 4 standard errors."""
    for exact, got in zip(*estimates(estimator), strict=True):
        error = np.std(got, axis=0) / 100
        # The largest z-score of the gradient's entries is compared.
        assert np.max(np.abs(np.mean(got, axis=0) - exact) / error) < (4 if exact.size < 5 else 4.5)
    assert np.abs(estimates(estimator)[0][0]) > 0.1


def test_roulette_is_the_log_det_not_the_gradient_surrogate():
    """For J = 1/2 in one dimension the value is log 1.5 = 0.405; the surrogate of residual flows' code is 0.333."""
    b = Contractive(1, (1,), key=KEY, activation=jnp.sin, lipschitz=0.9, log_det=RussianRoulette(4))
    b = eqx.tree_at(lambda b: b.weights, b, (jnp.full((1, 1), 0.5**0.5), jnp.full((1, 1), 0.5**0.5)))
    values = jax.jit(jax.vmap(lambda key: b.forward_and_log_det(jnp.zeros(1), key=key)[1]))(jr.split(KEY, 10_000))
    assert abs(values.mean() - np.log(1.5)) < 4 * values.std() / 100
    np.testing.assert_allclose(b.forward_and_log_det(jnp.zeros(1))[1], np.log(1.5), atol=1e-14)


def test_power_series_bias_is_within_its_bound():
    (exact, *_), (values, *_) = estimates(PowerSeries(2))
    bias = abs(np.mean(values) - exact)
    assert 0.001 < bias < 4 * 0.9**3 / (3 * 0.1)


@pytest.mark.parametrize(("estimator",), first((RussianRoulette(),), (PowerSeries(2),), (ExactLogDet(),)))
def test_without_a_key_all_is_exact(estimator):
    b = randomize(Contractive(3, (8,), log_det=estimator, key=KEY), KEY, 3.0)
    u = jr.normal(KEY, (3,))
    x, log_det = b.forward_and_log_det(u)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jax.jacfwd(b.forward)(u))[1], atol=1e-13)
    back, inverse_log_det = b.inverse_and_log_det(x, key=jr.key(5))
    np.testing.assert_allclose(back, u, atol=1e-12)
    expected = b.forward_and_log_det(u, key=jr.key(5))[1]
    np.testing.assert_allclose(inverse_log_det, -expected, atol=1e-12)


@pytest.mark.conformance
def test_single_precision_near_the_limit():
    with jax.enable_x64(False):
        b = randomize(Contractive(5, (32, 32), lipschitz=0.999, key=jr.key(0)), jr.key(3), 3.0)
        u = jr.normal(jr.key(4), (100, 5))
        x = jax.vmap(b.forward)(u)
        np.testing.assert_allclose(jax.vmap(b.forward)(jax.vmap(b.inverse)(x)), x, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Contractive(3, key=KEY, lipschitz=1.0), "lipschitz=1.0"),
        (lambda: Contractive(3, (), key=KEY), "hidden"),
        (lambda: Contractive(3, key=KEY, activation=jax.nn.relu), "relu"),
        (lambda: PowerSeries(0), "terms=0"),
        (lambda: RussianRoulette(2, probes=0), "probes=0"),
    ],
)
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
