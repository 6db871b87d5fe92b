"""What all bijections have: shapes and types of arguments, batches, and the identity as the start."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import pushforward as pf
from cases import CASES, CATALOGUE, rescaled
from pushforward import bijections as bj
from pushforward.testing import randomize


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


@eqx.filter_jit
def batched_and_mapped(bijection, u, score, condition, axis):
    batched = bijection.push_score_batch(u, score, condition)
    mapped = jax.vmap(bijection.push_score, in_axes=(-1, -1, axis), out_axes=-1)(u, score, condition)
    return batched, mapped


class InParts(bj.Amortized):
    events_at_once: ClassVar[int] = 3


@pytest.mark.parametrize("name", ["in parts", *(n for n in CASES if "spline" not in n or "elementwise" in n)])
def test_batched_is_vmap(name):
    """With one condition, and with one for each event; `check_bijection` tests the two other methods."""
    bijection = randomize(CASES["amortized" if name == "in parts" else name](3, jr.key(0)), jr.key(1), 1.0)
    if name == "in parts":
        bijection = InParts(bijection.bijection, bijection.network, bijection.cond_shape)
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


def test_which_inverses_are_iterative():
    key = jr.key(0)
    masked = bj.MaskedAutoregressive(bj.Affine(), 2, key=key)
    for bijection in (masked, bj.Planar(2, key=key), bj.Contractive(2, key=key), bj.Frozen(masked), bj.DeepSigmoidal()):
        assert bijection.numerical_inverse
        assert bj.Chain([bijection]).numerical_inverse
        assert not bj.Invert(bijection).numerical_inverse
    for bijection in (bj.Affine(), bj.Radial(2, key=key), bj.Frozen(bj.Affine()), bj.Coupling(bj.Affine(), 2, key=key)):
        assert not bijection.numerical_inverse
