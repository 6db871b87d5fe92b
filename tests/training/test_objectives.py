"""Objectives: their values and gradients against closed forms, and the two gradients of the reverse KL."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from products import few
from pushforward import bijections as bj
from pushforward.testing import randomize

LOC = jnp.array([0.5, -1.0, 2.0])
LOWER = jnp.array([[1.0, 0.0, 0.0], [0.4, 0.8, 0.0], [-0.3, 0.2, 1.5]])
GAUSSIAN = dist.MultivariateNormal(LOC, scale_tril=LOWER)
NORMAL = dist.Normal(jnp.zeros(3), 1.0).to_event(1)


def gaussian_flow(loc=LOC, lower=LOWER):
    return pf.Flow(NORMAL, bj.Triangular(3, loc, lower))


def unnormalised(x):
    """The Gaussian times e^2."""
    return GAUSSIAN.log_prob(x) + 2.0


def funnel(x):
    """A target that none of the flows here can match."""
    return -0.5 * x[0] ** 2 - 0.5 * jnp.sum((x[1:] - x[0] ** 2) ** 2)


def loss_at(objective, flow, key, step=0):
    """The loss of a step with a batch of the objective's own."""
    batches, step = objective.batches, jnp.array(step)
    _, batch = batches.next(batches.begin(key, step), key, step)
    return objective.loss(flow, batch, key, step)


# Compiled once for all tests.
loss_of = eqx.filter_jit(lambda objective, flow, key: loss_at(objective, flow, key))
evaluate = eqx.filter_jit(lambda objective, flow, key: objective.evaluate(flow, key))
sample_and_log_prob = eqx.filter_jit(pf.Flow.sample_and_log_prob)


# Reverse KL.


@pytest.mark.parametrize("path_gradient", [True, False], ids=["path", "total"])
def test_reverse_kl_is_minus_the_elbo_of_its_draws(path_gradient):
    flow = pf.flows.realnvp(3, key=jr.key(0), num_layers=2, hidden=(4,))
    flow = eqx.tree_at(lambda f: f.bijection, flow, randomize(flow.bijection, jr.key(1), 0.5))
    x, log_q = sample_and_log_prob(flow, jr.key(2), (50,))
    elbo = jnp.mean(jax.vmap(funnel)(x) - log_q)
    loss = loss_of(pf.ReverseKL(funnel, 50, path_gradient=path_gradient), flow, jr.key(2))
    np.testing.assert_allclose(loss, -elbo, rtol=1e-10)
    fresh = evaluate(pf.ReverseKL(funnel, 5, num_evaluation_samples=50), flow, jr.key(2))
    np.testing.assert_allclose(fresh, -elbo, rtol=1e-10)


def test_reverse_kl_of_gaussians():
    """KL(N(0, I) || N(m, L L')) = (tr(S^-1) + m' S^-1 m - d + log det S) / 2, less the log of the factor e^2."""
    flow = gaussian_flow(jnp.zeros(3), jnp.eye(3))
    precision = np.linalg.inv(LOWER @ LOWER.T)
    kl = 0.5 * (np.trace(precision) + LOC @ precision @ LOC - 3) + np.log(np.diag(LOWER)).sum()
    n = 20_000
    x, log_q = sample_and_log_prob(flow, jr.key(0), (n,))
    error = jnp.std(log_q - GAUSSIAN.log_prob(x)) / n**0.5
    assert abs(loss_of(pf.ReverseKL(unnormalised, n), flow, jr.key(0)) - (kl - 2.0)) < 5 * error


@eqx.filter_jit
def gradients(flow, objective, keys):
    """The gradient of each key, raveled."""
    arrays, static = eqx.partition(flow, eqx.is_inexact_array)

    def one(key):
        gradient = jax.grad(lambda arrays: loss_at(objective, eqx.combine(arrays, static), key))(arrays)
        return jax.flatten_util.ravel_pytree(gradient.bijection)[0]

    return jax.vmap(one)(keys)


@pytest.mark.parametrize("recipe", few(["realnvp", "nsf", "maf", "iaf"], "realnvp", "iaf"))
def test_path_and_total_gradient_have_one_expectation(recipe):
    """The difference, the score term, has mean zero: within 5 standard errors in every parameter."""
    sizes = {"bins": 3} if recipe == "nsf" else {}
    flow = getattr(pf.flows, recipe)(3, key=jr.key(0), num_layers=2, hidden=(4,), **sizes)
    flow = eqx.tree_at(lambda f: f.bijection, flow, randomize(flow.bijection, jr.key(1), 0.3))
    keys = jr.split(jr.key(2), 200)
    path, total = (gradients(flow, pf.ReverseKL(funnel, 32, path_gradient=p), keys) for p in (True, False))
    difference = path - total
    error = difference.std(0) / len(keys) ** 0.5
    moved = error > 1e-12
    assert moved.mean() > 0.5
    assert jnp.abs(difference.mean(0) / jnp.where(moved, error, 1.0)).max() < 5
    # And the gradient itself is far from zero, so that the test says something.
    assert jnp.abs(total.mean(0) / (total.std(0) / len(keys) ** 0.5 + 1e-12)).max() > 20


def test_path_gradient_vanishes_at_the_target_and_the_total_one_does_not():
    keys = jr.split(jr.key(0), 4)
    path, total = (
        gradients(gaussian_flow(), pf.ReverseKL(unnormalised, 8, path_gradient=p), keys) for p in (True, False)
    )
    assert jnp.abs(path).max() < 1e-12
    assert jnp.abs(total).max() > 0.1


def test_path_gradient_reaches_a_learnable_base():
    base = pf.Learnable(dist.Normal(jnp.zeros(3), jnp.ones(3)).to_event(1))
    flow = pf.Flow(base, bj.Triangular(3, LOC, LOWER))
    objective = pf.ReverseKL(unnormalised, 16)
    at_target = eqx.filter_grad(lambda f: loss_at(objective, f, jr.key(0)))(flow).base.raw
    np.testing.assert_allclose([*at_target.values()], 0.0, atol=1e-12)
    elsewhere = eqx.tree_at(lambda f: f.base.raw["loc"], flow, jnp.ones(3))
    gradient = eqx.filter_grad(lambda f: loss_at(objective, f, jr.key(0)))(elsewhere).base.raw
    # log q and log p differ by a shift of u, whose gradient is that shift in the base's coordinates.
    np.testing.assert_allclose(gradient["loc"], np.ones(3), rtol=1e-10)


def test_reverse_kl_needs_differentiable_draws_of_a_learnable_base():
    mixture = dist.MixtureSameFamily(dist.Categorical(probs=jnp.ones(2) / 2), dist.Normal(jnp.zeros(2), jnp.ones(2)))
    flow = pf.Flow(pf.Learnable(mixture), bj.Affine())
    assert not mixture.has_rsample
    with pytest.raises(ValueError, match="draws that are differentiable"):
        loss_at(pf.ReverseKL(jax.scipy.stats.norm.logpdf, 4), flow, jr.key(0))
    loss = loss_at(pf.ReverseKL(jax.scipy.stats.norm.logpdf, 4), pf.Flow(mixture, bj.Affine()), jr.key(0))
    assert jnp.isfinite(loss)


@pytest.mark.parametrize("sizes", [{"num_samples": 0}, {"num_evaluation_samples": 0}], ids=str)
def test_reverse_kl_needs_samples(sizes):
    with pytest.raises(ValueError, match=f"{next(iter(sizes))} must be a whole number"):
        pf.ReverseKL(funnel, **sizes)


# Bounds by importance weights.


def naive_bound(objective, flow, key):
    """As the papers have it, with nothing rewritten: its automatic gradient is the total one."""
    x, log_q = flow.sample_and_log_prob(key, (objective.num_samples, objective.num_bounds))
    weights = jnp.exp(jax.vmap(jax.vmap(funnel))(x) - log_q)
    if objective.alpha == 1:
        return -jnp.mean(jnp.log(weights))
    return -jnp.mean(jnp.log(jnp.mean(weights ** (1 - objective.alpha), 0))) / (1 - objective.alpha)


BOUNDS = [pf.ImportanceWeighted(funnel, 5, 4), *(pf.Renyi(funnel, alpha, 5, 4) for alpha in (1.0, 0.5, -1.0, 2.0))]


@pytest.mark.parametrize("objective", BOUNDS, ids=lambda o: f"{o.alpha:g}")
def test_weighted_bounds_and_their_gradients(objective):
    flow = pf.Flow(NORMAL, randomize(bj.Triangular(3), jr.key(0), 0.3))
    np.testing.assert_allclose(loss_of(objective, flow, jr.key(1)), naive_bound(objective, flow, jr.key(1)), rtol=1e-12)
    arrays, static = eqx.partition(flow, eqx.is_inexact_array)
    keys = jr.split(jr.key(2), 20_000)

    @jax.jit
    @jax.vmap
    def naive(key):
        gradient = jax.grad(lambda arrays: naive_bound(objective, eqx.combine(arrays, static), key))(arrays)
        return jax.flatten_util.ravel_pytree(gradient.bijection)[0]

    found, expected = gradients(flow, objective, keys), naive(keys)
    error = ((found.var(0) + expected.var(0)) / len(keys)) ** 0.5
    np.testing.assert_array_less(jnp.abs(found.mean(0) - expected.mean(0)), 5 * error)


def test_weighted_bounds_of_the_target_itself_have_no_noise():
    for objective in (pf.ImportanceWeighted(unnormalised), pf.Renyi(unnormalised, 0.3)):
        np.testing.assert_allclose(loss_of(objective, gaussian_flow(), jr.key(0)), -2.0, rtol=1e-12)
        np.testing.assert_allclose(evaluate(objective, gaussian_flow(), jr.key(0)), -2.0, rtol=1e-12)
        np.testing.assert_allclose(gradients(gaussian_flow(), objective, jr.split(jr.key(0), 2)), 0, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pf.ImportanceWeighted(funnel, 0), "num_samples must be a whole number .* is 0, in ImportanceWeighted"),
        (lambda: pf.Renyi(funnel, float("nan")), "alpha must be a number .* nan, in Renyi"),
    ],
)
def test_weighted_bounds_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [pf.ReverseKL, pf.ImportanceWeighted, pf.Renyi])
def test_targets_that_return_arrays_are_refused(make):
    """Broadcasting would pair the value of each draw with the densities of all others."""
    objective = make(lambda x: dist.Normal(0.0, 1.0).log_prob(x[:1]))
    for value in (loss_of, evaluate):
        with pytest.raises(ValueError, match=r"a scalar for one event, but returns an array of shape \(1,\)"):
            value(objective, gaussian_flow(), jr.key(0))


# Forward KL.

DATA = np.random.default_rng(0).normal(size=(40, 3)) * [1.0, 2.0, 0.5] + [0.0, 1.0, -1.0]


def scale_flow():
    scalars = eqx.tree_at(lambda b: b.scalars.loc, bj.Elementwise(bj.Affine(0.0, 1.5), 3), LOC)
    return pf.Flow(NORMAL, scalars)


def test_forward_kl_of_a_gaussian():
    """-mean log N(x; m, s^2) = mean (x - m)^2 / (2 s^2) + log s + log(2 pi) / 2, with a known gradient by m."""
    loss, gradient = eqx.filter_value_and_grad(lambda f: loss_at(pf.ForwardKL(DATA, batch_size=None), f, jr.key(0)))(
        scale_flow()
    )
    expected = ((DATA - LOC) ** 2 / (2 * 1.5**2)).mean(0) + np.log(1.5) + 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(loss, expected.sum(), rtol=1e-12)
    np.testing.assert_allclose(gradient.bijection.scalars.loc, -(DATA - LOC).mean(0) / 1.5**2, rtol=1e-10)
    # d loss / d log s = 1 - mean (x - m)^2 / s^2, and d log s / d raw = 1 / (s + 1/s).
    by_log_scale = 1 - ((DATA - LOC) ** 2).mean(0) / 1.5**2
    np.testing.assert_allclose(gradient.bijection.scalars.raw_scale, by_log_scale / (1.5 + 1 / 1.5), rtol=1e-10)


def test_forward_kl_in_batches_is_unbiased():
    objective = pf.ForwardKL(DATA, batch_size=16)
    full = loss_at(pf.ForwardKL(DATA, batch_size=None), scale_flow(), jr.key(0))
    losses = jax.vmap(lambda key: loss_at(objective, scale_flow(), key))(jr.split(jr.key(0), 500))
    assert losses.std() > 0
    assert abs(losses.mean() - full) < 5 * losses.std() / 500**0.5


@pytest.mark.parametrize("few", [True, False])
def test_forward_kl_evaluates_on_all_data_or_on_a_part(few):
    flow, objective = scale_flow(), pf.ForwardKL(DATA, batch_size=4, num_evaluation_samples=10 if few else 40)
    full = loss_at(pf.ForwardKL(DATA, batch_size=None), flow, jr.key(0))
    fresh = jnp.array([objective.evaluate(flow, key) for key in jr.split(jr.key(0), 5)])
    assert np.allclose(fresh, full) is not few
    np.testing.assert_allclose(fresh.mean(), full, rtol=0.5)


def test_forward_kl_evaluates_on_the_rows_that_have_weight():
    """Of 1,000 rows three have weight; an estimate from 50 rows draws these alone."""
    weights = np.zeros(1000)
    weights[[1, 500, 900]] = 1, 2, 1
    data = np.random.default_rng(1).normal(size=(1000, 3))
    objective = pf.ForwardKL(data, weights=weights, num_evaluation_samples=50)
    losses = np.array([evaluate(objective, scale_flow(), key) for key in jr.split(jr.key(0), 20)])
    each = -scale_flow().log_prob(jnp.asarray(data[[1, 500, 900]]))
    expected = each @ jnp.array([0.25, 0.5, 0.25])
    assert each.min() <= losses.min() < losses.max() <= each.max()
    assert abs(losses.mean() - expected) < 5 * each.std() / 1000**0.5
    trained, _ = pf.train(scale_flow(), objective, key=jr.key(1), steps=20, num_evaluations=2)
    assert not eqx.tree_equal(trained, scale_flow())


def test_forward_kl_pairs_each_sample_with_its_condition():
    """x = c + noise, and a flow that moves by c: with conditions in another order the loss is another."""
    network = bj.MLP(1, 2, (), key=jr.key(0))
    network = eqx.tree_at(lambda n: n.weights[0], network, jnp.array([[1.0], [0.0]]))
    flow = pf.Flow(dist.Normal(0.0, 1.0), bj.Amortized(bj.Affine(), network, (1,)))
    condition = 10 * jnp.arange(20.0)[:, None]
    data = condition[:, 0] + 0.1
    expected = 0.5 * 0.1**2 + 0.5 * np.log(2 * np.pi)
    for batch_size in (None, 5):
        objective = pf.ForwardKL(data, condition, batch_size=batch_size, num_evaluation_samples=7)
        np.testing.assert_allclose(loss_of(objective, flow, jr.key(0)), expected, rtol=1e-8)
        np.testing.assert_allclose(evaluate(objective, flow, jr.key(0)), expected, rtol=1e-8)


def test_forward_kl_takes_batches_of_epochs():
    data, epochs = jnp.asarray(DATA), pf.training.Epochs(((DATA, None), None), 40)
    batch = epochs.next(epochs.begin(jr.key(0), jnp.array(0)), jr.key(0), jnp.array(0))[1]
    loss = pf.ForwardKL(data).loss(scale_flow(), batch, jr.key(0), jnp.array(0))
    np.testing.assert_allclose(loss, -scale_flow().log_prob(data).mean(), rtol=1e-6)


@pytest.mark.parametrize("values", [DATA, (DATA, None)])
def test_forward_kl_refuses_batches_of_another_form(values):
    with pytest.raises(TypeError, match=r"must have the form \(\(data, condition\), weights\)"):
        pf.train(scale_flow(), pf.ForwardKL(DATA), key=jr.key(0), steps=2, batches=pf.training.Epochs(values, 10))


def test_forward_kl_errors():
    with pytest.raises(ValueError, match=r"one or more samples along the first axis, got shape \(0, 3\)"):
        pf.ForwardKL(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"one or more samples along the first axis, got shape \(\)"):
        pf.ForwardKL(1.0)
    with pytest.raises(ValueError, match="40 and 39"):
        pf.ForwardKL(DATA, np.zeros((39, 2)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        pf.ForwardKL(np.where(np.arange(3) == 1, np.nan, DATA))


@pytest.mark.parametrize("kind", ["residual", "continuous"])
def test_stochastic_log_determinants_train_and_exact_ones_are_reported(kind):
    """A step's loss is an unbiased estimate by another random log-determinant each time; a fresh estimate is exact."""
    options = {
        "residual": {"num_layers": 2, "log_det": bj.RussianRoulette(), "hidden": (8,)},
        "continuous": {"hutchinson": True, "rtol": 1e-5, "atol": 1e-5, "hidden": (8,)},
    }[kind]
    flow = randomize(getattr(pf.flows, kind)(3, key=jr.key(0), **options), jr.key(1), 1.0)
    assert flow.bijection.stochastic
    objective = pf.ForwardKL(GAUSSIAN.sample(jr.key(2), (64,)), batch_size=None)
    exact = evaluate(objective, flow, jr.key(3))
    assert exact == evaluate(objective, flow, jr.key(4))
    losses = np.array([loss_of(objective, flow, key) for key in jr.split(jr.key(5), 200)])
    assert abs(losses.mean() - exact) < 4 * losses.std() / 200**0.5
    assert losses.std() > 0
    reverse = pf.ReverseKL(GAUSSIAN.log_prob, 64, num_evaluation_samples=20_000)
    losses = np.array([loss_of(reverse, flow, key) for key in jr.split(jr.key(6), 200)])
    assert abs(losses.mean() - evaluate(reverse, flow, jr.key(7))) < 5 * losses.std() / 200**0.5
