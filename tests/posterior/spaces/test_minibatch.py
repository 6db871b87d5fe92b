"""PyMC models with `pm.Minibatch`: the density of all rows, unbiased estimates of it, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pushforward as pf
from pushforward.posterior.spaces.large import LargeDataSpace

pm = pytest.importorskip("pymc")

X = np.random.default_rng(0).normal(size=(203, 3))
Y = np.random.default_rng(1).integers(0, 4, 203).astype(np.int32)
Z = np.random.default_rng(2).normal(size=(31, 2))


def slices(batch):
    """The data, or a minibatch of them: of two arrays together, and of a smaller one."""
    if not batch:
        return X, Y, Z
    return (*pm.Minibatch(X, Y, batch_size=10), pm.Minibatch(pm.Data("z_rows", Z), batch_size=4))


def model(batch):
    with pm.Model() as built:
        x, y, z = slices(batch)
        scale = pm.HalfNormal("scale")
        weights = pm.Normal("weights", 0.0, scale, shape=3)
        pm.Normal("few", weights[:2], 1.0, observed=[0.3, 0.2])
        pm.Potential("term", -(scale**2))
        pm.Deterministic("twice", 2 * scale)
        rate = pm.math.exp(x @ weights)
        pm.Deterministic("rate", rate)
        pm.Poisson("y", rate, observed=y, total_size=len(Y) if batch else None)
        pm.Normal("z", weights[:2], scale, observed=z, total_size=[len(Z), None] if batch else None)
    return built


@pytest.fixture(scope="module")
def targets():
    return [pf.Target.from_pymc(model(batch)) for batch in (False, True)]


def test_the_density_is_that_of_the_model_with_all_rows(targets):
    whole, target = targets
    assert isinstance(target.space, LargeDataSpace)
    assert (target.space.num_rows, target.space.batch_size) == (203, 10)
    u = jnp.linspace(-0.5, 0.7, target.dim)
    np.testing.assert_allclose(target(u), whole(u), rtol=1e-10)
    np.testing.assert_allclose(jax.grad(target)(u), jax.grad(whole)(u), rtol=1e-8)
    np.testing.assert_allclose(target.log_volume(u), whole.log_volume(u), rtol=1e-8)
    assert set(target.constrain(u)) == {"scale", "weights", "twice"}


def test_a_random_row_estimates_the_gradient_without_bias(targets):
    target = targets[1]
    u = jnp.linspace(-0.5, 0.7, target.dim)

    def estimate(u, row):
        z = target.unravel(u)
        return target.space.log_prior(z) + 203 * target.space.log_likelihoods(z, row[None])[0]

    gradients = jax.jit(jax.vmap(jax.grad(estimate), (None, 0)))(u, jnp.arange(203))
    np.testing.assert_allclose(np.mean(gradients, axis=0), jax.grad(target)(u), rtol=1e-8)


def observed_without_size(mean, x):
    pm.Normal("y", mean, observed=pm.Minibatch(x, batch_size=5))


def wrong_size(mean, x):
    pm.Normal("y", mean, observed=pm.Minibatch(x, batch_size=5), total_size=100)


def separate_calls(mean, x):
    y, z = (pm.Minibatch(x, batch_size=5) for _ in range(2))
    pm.Normal("y", mean * z, observed=y, total_size=203)


def latent(mean, x):
    z = pm.Normal("z", pm.Minibatch(x, batch_size=5), shape=5)
    pm.Normal("y", z, observed=pm.Minibatch(x, batch_size=5), total_size=203)


def potential(mean, x):
    pm.Potential("term", pm.logp(pm.Normal.dist(mean), pm.Minibatch(x, batch_size=5)).sum())


def one_vector(mean, x):
    pm.MvNormal("y", mean * np.ones(5), np.eye(5), observed=pm.Minibatch(x, batch_size=5), total_size=203)


def normalized(mean, x):
    y = pm.Minibatch(x, batch_size=5)
    pm.Normal("y", mean * y / y.sum(), observed=y, total_size=203)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (observed_without_size, r"y depends on a pm\.Minibatch, but has no total_size: .* total_size=203"),
        (wrong_size, r"y has the total_size \(100\), but its pm\.Minibatch is made of 203 rows"),
        (separate_calls, r"y depends on 2 calls of pm\.Minibatch"),
        (latent, r"z depend on a pm\.Minibatch"),
        (potential, r"term depend on a pm\.Minibatch"),
        (one_vector, "y has one log-likelihood for all of its rows"),
        (normalized, "depends on the other rows"),
    ],
)
@pytest.mark.filterwarnings("ignore:total_size not provided")
def test_minibatches_whose_rows_are_not_independent_are_named(build, words):
    with pm.Model() as built:
        build(pm.Normal("mean"), X[:, 0])
    with pytest.raises(ValueError, match=words):
        pf.Target.from_pymc(built)
