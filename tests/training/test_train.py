"""The training loop against a plain one, and what it does when things go wrong."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import pushforward as pf
from pushforward import bijections as bj
from pushforward.training import compilation, trainer

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
    with pytest.raises(ValueError, match="no trainable arrays"):
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


def test_a_gradient_that_is_not_finite_is_skipped_too():
    """The root of |loc| has a value at 0, where loc begins, and no slope."""

    def rooted(x):
        return jnp.sum(jnp.sqrt(jnp.abs(x - jax.lax.stop_gradient(x))))

    with pytest.warns(UserWarning, match="3 of 3 steps were skipped"):
        trained, losses = train(simple_flow(), pf.ReverseKL(rooted, 4), key=jr.key(0), steps=3)
    assert np.isnan(losses).all()
    np.testing.assert_array_equal(trained.bijection.scalars.loc, np.zeros(2))


def test_no_finite_estimate_at_all_is_an_error():
    with pytest.raises(FloatingPointError, match="no estimate of the loss was finite in 6 steps"):
        train(simple_flow(), pf.ReverseKL(lambda x: jnp.nan * x[0], 4), key=jr.key(0), steps=6)


@pytest.mark.parametrize("numbers", [{"steps": 0}, {"steps": -1}, {"num_evaluations": 0}], ids=str)
def test_numbers_of_steps_that_make_no_sense(numbers):
    with pytest.raises(ValueError, match="one or more steps and evaluations"):
        train(simple_flow(), pf.ReverseKL(target, 4), key=jr.key(0), **numbers)


def test_the_best_is_kept():
    """The step size explodes half way: what is returned is the best by fresh estimates, not the last."""
    optimizer = optax.sgd(optax.piecewise_constant_schedule(0.05, {50: 1e4}))
    objective, fresh = pf.ReverseKL(target, 16), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained, losses = train(
            simple_flow(),
            objective,
            key=jr.key(0),
            steps=100,
            optimizer=optimizer,
            num_evaluations=10,
            callback=lambda progress: fresh.update({progress.step: progress.loss}),
        )
    assert [*fresh] == [*range(10, 101, 10)]
    assert not losses[-1] < 1e3
    best = min(fresh, key=lambda n: fresh[n] if np.isfinite(fresh[n]) else np.inf)
    assert best <= 50
    _, evaluation_key = jr.split(jr.key(0))
    np.testing.assert_allclose(objective.evaluate(trained, evaluation_key), fresh[best], rtol=1e-10)
    again, _ = plain_loop(simple_flow(), objective, jr.key(0), best, optimizer)
    assert_trees_close(trained, again, 1e-10)


# Compilation, and what the user sees.


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
    misses = trainer.Trainer.advance._cached._cache_size
    train(simple_flow(), pf.ForwardKL(first), key=jr.key(0), steps=3, optimizer=optimizer)
    before = misses()
    _, losses = train(simple_flow(), pf.ForwardKL(other), key=jr.key(0), steps=3, optimizer=optimizer)
    assert misses() == before
    np.testing.assert_allclose(losses[0], 1.0 + np.log(2 * np.pi))


def test_default_optimizer_is_adam_with_cosine_decay():
    objective = pf.ReverseKL(target, 4)
    _, losses = train(simple_flow(), objective, key=jr.key(0), steps=6)
    _, expected = plain_loop(simple_flow(), objective, jr.key(0), 6, optax.adam(optax.cosine_decay_schedule(1e-3, 6)))
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


@pytest.mark.parametrize("show", [True, False])
def test_progress_prints_if_asked(show, capsys):
    train(simple_flow(), pf.ReverseKL(target, 4), key=jr.key(0), steps=3, progress=show)
    out = "".join(capsys.readouterr())
    assert ("training" in out and "loss" in out) is show
    assert show or not out


def test_the_callback_receives_the_steps_and_the_fresh_loss():
    calls = []
    train(
        simple_flow(),
        pf.ReverseKL(target, 4),
        key=jr.key(0),
        steps=7,
        num_evaluations=3,
        callback=lambda progress: calls.append((progress.step, progress.loss)),
    )
    assert [step for step, _ in calls] == [3, 6, 7]
    assert all(type(loss) is float for _, loss in calls)
    assert calls[-1][1] < calls[0][1]


def test_float32():
    with jax.enable_x64(False):
        flow = pf.flows.realnvp(2, key=jr.key(0), num_layers=2, hidden=(4,))
        flow, losses = train(flow, pf.ReverseKL(target, 16), key=jr.key(0), steps=20)
        assert losses.dtype == np.float32
        assert all(
            leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(eqx.filter(flow.bijection, eqx.is_inexact_array))
        )


def test_compile_options_that_xla_does_not_know_are_left_out(monkeypatch):
    """They come and go with its versions."""
    monkeypatch.setattr(compilation.jax, "jit", refusing(compilation.jax.jit))
    compilation._is_known.cache_clear()
    assert compilation.jit_quick_compilation(lambda x: x + 1)(jnp.ones(2)).tolist() == [2.0, 2.0]
    compilation._is_known.cache_clear()


def refusing(jit):
    """`jax.jit` of an XLA that knows one of the options."""

    def call(fn, *, compiler_options=None, **options):
        unknown = {f"no_{name}" if "cpu" in name else name: value for name, value in (compiler_options or {}).items()}
        return jit(fn, compiler_options=unknown, **options)

    return call
