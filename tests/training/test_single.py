"""`train` reaches known optima, with its default optimizer and in single precision."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import pushforward as pf
from training_cases import plain_loop, simple_flow, target, train


def test_forward_kl_reaches_the_data():
    data = np.random.default_rng(0).normal(size=(2000, 2)) * [0.5, 2.0] + [1.0, -2.0]
    objective = pf.ForwardKL(data, batch_size=None)
    flow, losses = train(simple_flow(), objective, key=jr.key(0), steps=400, optimizer=optax.adam(0.05))
    np.testing.assert_allclose(flow.bijection.scalars.loc, data.mean(0), atol=1e-3)
    np.testing.assert_allclose(flow.bijection.scalars.scale, data.std(0), rtol=1e-3)
    assert losses[-1] < losses[0]


def test_reverse_kl_reaches_the_target():
    """With one evaluation, so that it is the last step that is kept: near the target an estimate's error decides."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 600))
    objective = pf.ReverseKL(target, 16)
    flow, _ = train(simple_flow(), objective, key=jr.key(0), steps=600, optimizer=optimizer, num_evaluations=1)
    np.testing.assert_allclose(flow.bijection.scalars.loc, [1.0, -2.0], atol=1e-3)
    np.testing.assert_allclose(flow.bijection.scalars.scale, [0.5, 2.0], rtol=1e-3)


@pytest.mark.parametrize("numbers", [{"steps": 0}, {"steps": -1}, {"num_evaluations": 0}], ids=str)
def test_numbers_of_steps_that_make_no_sense(numbers):
    with pytest.raises(ValueError, match="must be a whole number between 1"):
        train(simple_flow(), pf.ReverseKL(target, 4), key=jr.key(0), **numbers)


def test_default_optimizer_is_adam_with_cosine_decay():
    objective = pf.ReverseKL(target, 4)
    _, losses = train(simple_flow(), objective, key=jr.key(0), steps=6)
    _, expected = plain_loop(simple_flow(), objective, jr.key(0), 6, optax.adam(optax.cosine_decay_schedule(1e-3, 6)))
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


def test_float32():
    with jax.enable_x64(False):
        flow = pf.flows.realnvp(2, key=jr.key(0), num_layers=2, hidden=(4,))
        flow, losses = train(flow, pf.ReverseKL(target, 16), key=jr.key(0), steps=20)
        assert losses.dtype == np.float32
        assert all(
            leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(eqx.filter(flow.bijection, eqx.is_inexact_array))
        )
