"""A small training and the same by hand, shared by the tests of `training` and of fits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import optax

import pushforward as pf
from pushforward import bijections as bj

NORMAL = dist.Normal(jnp.zeros(2), jnp.ones(2)).to_event(1)


def target(x):
    return -0.5 * jnp.sum(((x - jnp.array([1.0, -2.0])) / jnp.array([0.5, 2.0])) ** 2)


def simple_flow(base=NORMAL):
    return pf.Flow(base, bj.Elementwise(bj.Affine(), 2))


def data_of(flow):
    return flow.base.template if isinstance(flow.base, pf.Learnable) else flow.base


def train(*arguments, **options):
    """The model, and the loss of every step."""
    model, history = pf.train(*arguments, **options)
    return model, history.losses


def plain_loop(flow, objective, key, steps, optimizer):
    """The same by hand: one step at a time."""
    spec = jax.tree.map(eqx.is_inexact_array, flow)
    spec = eqx.tree_at(data_of, spec, replace_fn=lambda d: jax.tree.map(lambda _: False, d))
    parameters, static = eqx.partition(flow, spec)
    state = optimizer.init(parameters)
    training_key, _ = jr.split(key)

    @jax.jit
    def step(parameters, state, n):
        key = jr.fold_in(training_key, n)
        loss, gradient = jax.value_and_grad(lambda p: objective.loss(eqx.combine(p, static), None, key, n))(parameters)
        updates, state = optimizer.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss

    losses = []
    for n in range(steps):
        parameters, state, loss = step(parameters, state, n)
        losses.append(loss)
    return eqx.combine(parameters, static), np.array(losses)


def assert_trees_close(got, expected, rtol):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


class Killed(Exception):
    """Raised by a callback in place of the end of a process."""
