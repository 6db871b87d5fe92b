"""The compiled loop against a plain one: which arrays it trains, which steps it skips, and when it compiles."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import pushforward as pf
from pushforward import bijections as bj
from training_cases import NORMAL, assert_trees_close, plain_loop, simple_flow, target, train


@pytest.mark.parametrize("base", [NORMAL, pf.Learnable(NORMAL)], ids=["fixed", "learnable"])
def test_equals_a_plain_loop(base):
    flow, objective, optimizer = simple_flow(base), pf.ReverseKL(target, 8), optax.adam(0.05)
    trained, losses = train(flow, objective, key=jr.key(0), steps=20, optimizer=optimizer, num_evaluations=1)
    expected, expected_losses = plain_loop(flow, objective, jr.key(0), 20, optimizer)
    assert losses.shape == (20,) and losses.dtype == np.float64
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-12, atol=1e-12)
    assert_trees_close(trained, expected, 1e-11)


@pytest.mark.parametrize("num_evaluations", [3, 20, 100])
def test_chunks_change_no_step(num_evaluations):
    """Nor need they divide the steps."""
    flow, objective, optimizer = simple_flow(), pf.ReverseKL(target, 8), optax.adam(0.05)
    _, expected = train(flow, objective, key=jr.key(0), steps=20, optimizer=optimizer, num_evaluations=1)
    _, losses = train(flow, objective, key=jr.key(0), steps=20, optimizer=optimizer, num_evaluations=num_evaluations)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


# What is trained.


def test_a_numpyro_base_is_data():
    flow, _ = train(simple_flow(), pf.ReverseKL(target, 8), key=jr.key(0), steps=5)
    for got, given in zip(jax.tree.leaves(flow.base), jax.tree.leaves(NORMAL), strict=True):
        np.testing.assert_array_equal(got, given)


def test_a_learnable_base_is_trained_and_its_template_is_data():
    flow = simple_flow(pf.Learnable(NORMAL))
    trained, _ = train(flow, pf.ReverseKL(target, 8), key=jr.key(0), steps=5)
    for name in ("loc", "scale"):
        assert np.all(trained.base.raw[name] != flow.base.raw[name])
    for got, given in zip(jax.tree.leaves(trained.base.template), jax.tree.leaves(NORMAL), strict=True):
        np.testing.assert_array_equal(got, given)


def test_integer_and_boolean_arrays_stay():
    flow = pf.flows.iaf(3, key=jr.key(0), num_layers=2, hidden=(4,))
    trained, _ = train(flow, pf.ReverseKL(lambda x: -jnp.sum((x - 1) ** 2), 4), key=jr.key(0), steps=2)
    before, after = (
        jax.tree.leaves(eqx.filter(f, lambda a: eqx.is_array(a) and not eqx.is_inexact_array(a)))
        for f in (flow, trained)
    )
    assert before
    for b, a in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_to_train_is_an_error():
    with pytest.raises(ValueError, match="model must have trainable arrays"):
        train(pf.Flow(NORMAL, bj.Identity((2,))), pf.ReverseKL(target, 4), key=jr.key(0), steps=2)


# When things go wrong.


def nan_beyond(x):
    return jnp.where(x[0] > 1.5, jnp.nan, target(x))


def test_steps_that_are_not_finite_are_skipped_and_counted():
    flow = simple_flow()
    with pytest.warns(UserWarning, match="of 40 steps were skipped") as record:
        trained, losses = train(
            flow, pf.ReverseKL(nan_beyond, 4, num_evaluation_samples=2), key=jr.key(0), steps=40, num_evaluations=40
        )
    skipped = np.isnan(losses).sum()
    assert 0 < skipped < 40
    assert str(record[0].message).startswith(f"{skipped} of 40")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained))


def test_a_skipped_step_changes_neither_parameters_nor_optimizer():
    """A loss that is finite at every other draw: the parameters are those of a loop over the finite steps alone."""

    class Alternating(pf.training.objectives.AbstractObjective):
        def loss(self, flow, batch, key, step):
            bad = jr.bernoulli(key)
            return jnp.where(bad, jnp.nan, 1.0) * jnp.sum((flow.bijection.scalars.loc - 3.0) ** 2)

        def evaluate(self, flow, key):
            return jnp.sum((flow.bijection.scalars.loc - 3.0) ** 2)

    optimizer = optax.adam(0.1)
    with pytest.warns(UserWarning, match="skipped"):
        trained, losses = train(simple_flow(), Alternating(), key=jr.key(0), steps=20, optimizer=optimizer)
    loc = jnp.zeros(2)
    state = optimizer.init(loc)
    for _ in range(np.isfinite(losses).sum()):
        updates, state = optimizer.update(2 * (loc - 3.0), state)
        loc = loc + updates
    np.testing.assert_allclose(trained.bijection.scalars.loc, loc, rtol=1e-12)


class Custom(pf.training.objectives.AbstractObjective):
    """An objective that returns what it is given, besides a loss that can be trained."""

    factor: jax.Array
    found: dict
    fresh: float | jax.Array
    metrics = ("norm",)

    def loss(self, flow, batch, key, step):
        return self.factor * jnp.sum(flow.bijection.scalars.loc**2), self.found

    def evaluate(self, flow, key):
        return self.fresh


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factor": jnp.ones(2)}, r"Custom.loss must return scalars, but the loss has shape \(2,\)"),
        ({"fresh": jnp.ones(2)}, r"Custom.evaluate must return scalars, but the loss has shape \(2,\)"),
        ({"found": {"norm": jnp.ones(2)}}, r"Custom.loss must return scalars, but norm has shape \(2,\)"),
        ({"found": {}}, r"Custom.metrics names, \['norm'\], but returns \[\]"),
        ({"found": {"norm": 1.0, "more": 2.0}}, r"names, \['norm'\], but returns \['more', 'norm'\]"),
    ],
    ids=["loss", "evaluate", "metric", "missing", "more"],
)
def test_what_objectives_return_is_checked(changes, message):
    right = {"factor": jnp.ones(()), "found": {"norm": 1.0}, "fresh": 0.5}
    pf.train(simple_flow(), Custom(**right), key=jr.key(0), steps=2)
    with pytest.raises(ValueError, match=message):
        pf.train(simple_flow(), Custom(**right | changes), key=jr.key(0), steps=2)


def test_a_gradient_that_is_not_finite_is_skipped_too():
    """The root of |loc| has a value at 0, where loc begins, and no slope."""

    def rooted(x):
        return jnp.sum(jnp.sqrt(jnp.abs(x - jax.lax.stop_gradient(x))))

    with pytest.warns(UserWarning, match="3 of 3 steps were skipped"):
        trained, losses = train(simple_flow(), pf.ReverseKL(rooted, 4), key=jr.key(0), steps=3)
    assert np.isnan(losses).all()
    np.testing.assert_array_equal(trained.bijection.scalars.loc, np.zeros(2))


# Compilation.


class Counted:
    """A target that counts how often it is traced."""

    def __init__(self):
        self.count = 0

    def __call__(self, x):
        self.count += 1
        return target(x)


def test_compiles_once_for_the_same_optimizer():
    """Neither the number of steps, nor the values of the parameters, nor the key make another program."""
    counted, optimizer = Counted(), optax.adam(1e-2)
    objective = pf.ReverseKL(counted, 4)
    flow, _ = train(simple_flow(), objective, key=jr.key(0), steps=10, optimizer=optimizer)
    first = counted.count
    assert first > 0
    flow, _ = train(flow, objective, key=jr.key(1), steps=10, optimizer=optimizer)
    assert counted.count == first
    train(flow, objective, key=jr.key(2), steps=25, optimizer=optimizer)
    assert counted.count == first


def test_data_are_arguments_not_constants():
    """Other data of the same shape go through the same program."""
    optimizer = optax.adam(1e-2)
    first, other = jnp.zeros((10, 2)), jnp.ones((10, 2))
    train(simple_flow(), pf.ForwardKL(first), key=jr.key(0), steps=3, optimizer=optimizer)
    events = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: events.append(name))
    _, losses = train(simple_flow(), pf.ForwardKL(other), key=jr.key(0), steps=3, optimizer=optimizer)
    assert "/jax/core/compile/backend_compile_duration" not in events
    np.testing.assert_allclose(losses[0], 1.0 + np.log(2 * np.pi))
