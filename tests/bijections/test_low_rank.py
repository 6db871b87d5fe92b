"""Low-rank bijections against the papers' formulas, written out, and at parameters that are numerically difficult."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from products import few
from pushforward.bijections import MLP, Amortized, Planar, Radial, Sylvester, TriangularSylvester, num_parameters
from pushforward.testing import randomize

KEY = jr.key(0)
BUILD = {
    "Planar": lambda dim: Planar(dim, key=KEY),
    "Radial": lambda dim: Radial(dim, key=KEY),
    "Sylvester": lambda dim: Sylvester(dim, min(dim, 3), key=KEY),
    "TriangularSylvester": lambda dim: TriangularSylvester(dim, min(dim, 3), key=KEY),
}


DIMS = [("Planar", 1), ("Planar", 5), ("Radial", 17), ("Sylvester", 5), ("TriangularSylvester", 2)]


@pytest.mark.parametrize("case", few(DIMS, ("Planar", 5), ("TriangularSylvester", 2)), ids=str)
def test_conformance(case):
    name, dim = case
    pf.testing.check_bijection(BUILD[name](dim), key=KEY)


@pytest.mark.conformance
@pytest.mark.parametrize("name", ["Radial", "Sylvester", "TriangularSylvester"])
def test_conformance_float32(name):
    with jax.enable_x64(False):
        pf.testing.check_bijection(BUILD[name](3), key=KEY, scales=(1.0,))


def test_conditional():
    b = Sylvester(5, 2, key=KEY)
    network = randomize(MLP(2, num_parameters(b), (8,), key=KEY), KEY, 0.1)
    pf.testing.check_bijection(Amortized(b, network, (2,)), key=KEY, scales=(0.0,))


@pytest.mark.parametrize("name", BUILD)
def test_starts_as_the_identity(name):
    u = jr.normal(KEY, (5,))
    x, log_det = BUILD[name](5).forward_and_log_det(u)
    np.testing.assert_allclose(x, u, atol=1e-14)
    np.testing.assert_allclose(log_det, 0, atol=1e-14)


@pytest.mark.parametrize("name", BUILD)
def test_batch_last(name):
    b = randomize(BUILD[name](5), KEY, 1.0)
    u, score = jr.normal(KEY, (2, 5, 7))

    @jax.jit
    def both_ways(u, score):
        return [
            (batch(*arrays), jax.vmap(one, in_axes=-1, out_axes=-1)(*arrays))
            for one, batch, arrays in (
                (b.forward_and_log_det, b.forward_batch, (u,)),
                (b.inverse_and_log_det, b.inverse_batch, (u,)),
                (b.push_score, b.push_score_batch, (u, score)),
            )
        ]

    for batched, mapped in both_ways(u, score):
        for got, want in zip(batched, mapped, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)


def test_planar_golden():
    """Rezende and Mohamed (2015), equations 10 to 12 and A.1, where w.v = 10 is mapped to about 9.00."""
    b = randomize(Planar(3, key=KEY), KEY, 1.0)
    w = np.array([1.0, -2.0, 0.5])
    v = 10 * w / (w @ w) + np.array([2.0, 1.0, 0.0])
    b = eqx.tree_at(lambda b: (b.v, b.w), b, (jnp.asarray(v), jnp.asarray(w)))
    v_hat = v + (np.log1p(np.exp(w @ v)) - 1 - w @ v) * w / (w @ w)
    assert abs(w @ v_hat - 9.00) < 0.005
    u = np.array([0.3, 0.1, -0.2])
    a = w @ u + float(b.bias[0])
    x, log_det = b.forward_and_log_det(jnp.asarray(u))
    np.testing.assert_allclose(x, u + v_hat * np.tanh(a), atol=1e-13)
    np.testing.assert_allclose(log_det, np.log(np.abs(1 + (1 - np.tanh(a) ** 2) * (w @ v_hat))), atol=1e-13)


def test_radial_golden():
    """Rezende and Mohamed (2015), equation 14."""
    b = randomize(Radial(3, key=KEY), KEY, 1.0)
    u, alpha, beta = np.array([0.3, 0.1, -0.2]), float(b.alpha), float(b.beta)
    offset = u - np.asarray(b.center)
    h = 1 / (alpha + np.linalg.norm(offset))
    x, log_det = b.forward_and_log_det(jnp.asarray(u))
    np.testing.assert_allclose(x, u + beta * h * offset, atol=1e-14)
    np.testing.assert_allclose(log_det, np.log((1 + alpha * beta * h**2) * (1 + beta * h) ** 2), atol=1e-14)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("name", ["Sylvester", "TriangularSylvester"])
def test_sylvester_golden(name, scale):
    """x = u + V tanh(W^T u + b) and the full J = I + V S W^T; and the condition on the factors."""
    b = randomize(BUILD[name](5), KEY, scale)
    v, w, inner = map(np.asarray, b.factors)
    u = np.asarray(jr.normal(KEY, (5,)))
    a = w.T @ u + np.asarray(b.bias)
    x, log_det = b.forward_and_log_det(jnp.asarray(u))
    np.testing.assert_allclose(x, u + v @ np.tanh(a), atol=1e-12)
    jacobian = np.eye(5) + v @ np.diag(1 - np.tanh(a) ** 2) @ w.T
    np.testing.assert_allclose(log_det, np.log(np.linalg.det(jacobian)), atol=1e-11)
    np.testing.assert_allclose(w.T @ v, inner, atol=1e-11)
    if name == "TriangularSylvester":
        # QU and QL, with the product over i = 1, ..., m.
        q = np.linalg.qr(w)[0]
        np.testing.assert_allclose(np.tril(w.T @ v, -1), 0, atol=1e-12)
        np.testing.assert_allclose(log_det, np.log1p((1 - np.tanh(a) ** 2) * np.diag(w.T @ v)).sum(), atol=1e-12)
        np.testing.assert_allclose(q @ q.T @ v, v, atol=1e-12)
        assert np.diag(w.T @ v).min() > -1
    else:
        assert np.linalg.eigvalsh(w.T @ v + v.T @ w).min() > -2


@pytest.mark.parametrize("name", BUILD)
def test_invertible_for_any_arrays(name):
    """All entries of arrays are equal: zero, parallel and huge directions."""
    u = jr.normal(KEY, (3, 50))

    @eqx.filter_jit
    def round_trip(b):
        x, log_det = b.forward_batch(u)
        return *b.inverse_batch(x), log_det

    for value in (0.0, 1.0, -1.0, 1e3, -1e3):
        back, inverse_log_det, log_det = round_trip(
            jax.tree.map(lambda a, v=value: jnp.full_like(a, v), BUILD[name](3))
        )
        assert np.isfinite(log_det).all()
        assert np.isfinite(inverse_log_det).all()
        if abs(value) < 10:
            np.testing.assert_allclose(back, u, atol=1e-9)


@pytest.mark.conformance
def test_other_activations():
    u = jr.normal(KEY, (4,))
    for activation in (jax.nn.sigmoid, jax.nn.soft_sign, jax.scipy.special.erf):
        b = randomize(TriangularSylvester(4, 2, activation=activation, key=KEY), KEY, 2.0)
        x, log_det = b.forward_and_log_det(u)
        np.testing.assert_allclose(log_det, np.linalg.slogdet(jax.jacfwd(b.forward)(u))[1], atol=1e-11)
        np.testing.assert_allclose(jax.jit(lambda x, b=b: b.inverse(x))(x), u, atol=1e-10)
    assert Planar(2, activation=half_tanh, max_slope=0.5, key=KEY).max_slope == 0.5


def test_radial_far_away():
    """Where squares overflow, and at infinity, it is the identity up to a shift."""
    with jax.enable_x64(False):
        b = randomize(Radial(3, key=KEY), KEY, 1.0)
        far = jnp.array([[1e30, -1e20, 0.0], [jnp.inf, 0.0, 1.0]], "float32")
        for method in (b.forward_and_log_det, b.inverse_and_log_det):
            x, log_det = jax.vmap(method)(far)
            np.testing.assert_allclose(x[0, :2], far[0, :2], rtol=1e-6)
            assert np.isposinf(x[1, 0])
            np.testing.assert_allclose(log_det, 0, atol=1e-6)


def half_tanh(x):
    return jnp.tanh(x / 2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Sylvester(3, 4, key=KEY), "num_units=4, dim=3"),
        (lambda: TriangularSylvester(3, 0, key=KEY), "num_units=0, dim=3"),
        (lambda: Planar(3, activation=jax.nn.relu, key=KEY), "relu is not known.*tanh"),
        (lambda: Planar(3, activation=half_tanh, max_slope=0.4, key=KEY), "max_slope=0.4.*0.5"),
        (lambda: Sylvester(3, 1, activation=jax.nn.silu, max_slope=1.2, key=KEY), "silu must have slopes from 0"),
    ],
)
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_radial_far_out_and_nan():
    with jax.enable_x64(False):
        radial = Radial(2, key=jr.key(0))
        for size in (1e6, 1e8, 1e12):
            x = jnp.array([size, -size])
            value, gradient = jax.value_and_grad(lambda x: radial.inverse_and_log_det(x)[1])(x)
            assert jnp.isfinite(value) and jnp.isfinite(gradient).all()
        u, log_det = radial.inverse_and_log_det(jnp.array([jnp.nan, 0.0]))
        assert jnp.isnan(u).all() and jnp.isnan(log_det)
