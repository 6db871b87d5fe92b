"""NumPyro models with subsampled plates: the density of all rows, unbiased estimates of it, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan

import pushforward as pf
from pushforward.posterior.spaces.large import LargeDataSpace
from pushforward.posterior.spaces.rows import RandomNumbers

X = np.random.default_rng(0).normal(size=(203, 3))
GROUPS = np.arange(203) % 4


def prior():
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    with numpyro.plate("groups", 4):
        return scale, numpyro.sample("means", dist.Normal(0.0, scale))


def by_indices(x, groups, size=None):
    scale, means = prior()
    numpyro.factor("outside", -(scale**2))
    with numpyro.plate("rows", len(x), subsample_size=size) as i:
        numpyro.deterministic("centered", x[i, 0] - means[groups[i]])
        numpyro.sample("x", dist.Normal(means[groups[i]], scale), obs=x[i, 0])
        numpyro.sample("y", dist.Normal(x[i, 1:], 1.0).to_event(1), obs=x[i, 1:])


def by_subsample(x, groups, size=None):
    scale, means = prior()
    with numpyro.plate("columns", 3, dim=-1), numpyro.plate("rows", len(x), subsample_size=size, dim=-2):
        batch = numpyro.subsample(x, event_dim=0)
        which = numpyro.subsample(groups[:, None], event_dim=0)
        with numpyro.handlers.scale(scale=0.5):
            numpyro.sample("x", dist.Normal(means[which], scale), obs=batch)


def two_plates(x, groups, size=None):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(x), subsample_size=size) as i:
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=x[i, 0])
    with numpyro.plate("others", 29, subsample_size=size and 3) as j, numpyro.handlers.scale(scale=0.3):
        numpyro.sample("y", dist.Normal(2.0 * mean, 1.5), obs=x[j, 1])


def nested(x, groups, size=None):
    """Observed sites in both plates, in the outer and in the inner one, and latent sites in both."""
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    table = x[:200].reshape(8, 25, 3)
    with numpyro.plate("outer", 8, subsample_size=size and 3, dim=-2) as i:
        step = numpyro.sample("step", dist.Normal(mean, 1.0))
        effect = numpyro.deterministic("effect", 2.0 * step)
        numpyro.sample("size", dist.Exponential(jnp.exp(0.1 * effect)), obs=jnp.abs(table[i, 0, :1]))
        with numpyro.plate("inner", 25, subsample_size=size and 5, dim=-1) as j:
            numpyro.deterministic("centered", table[i[:, None], j, 0] - effect)
            numpyro.sample("x", dist.Normal(effect, 1.0), obs=table[i[:, None], j, 0])
            numpyro.sample("z", dist.Normal(numpyro.subsample(table, event_dim=1), 1.0).to_event(1), obs=0.5)
    with numpyro.plate("inner", 25, subsample_size=size and 5, dim=-1):
        weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(3)))
        numpyro.sample("y", dist.Normal(weights[..., 0] + mean, 1.0), obs=numpyro.subsample(x[:25, 1], event_dim=0))


def inside(x, groups, size=None):
    """A latent site for each row."""
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(x), subsample_size=size) as i:
        z = numpyro.sample("z", dist.Normal(0.0, scale))
        numpyro.sample("x", dist.Normal(z, 1.0), obs=x[i, 0])


LATENT = {
    by_indices: {"scale", "means"},
    by_subsample: {"scale", "means"},
    two_plates: {"mean"},
    nested: {"mean", "step", "effect", "weights", "centered"},
    inside: {"scale", "z"},
}


@pytest.mark.parametrize("model", LATENT)
def test_the_density_is_that_of_the_model_without_subsampling(model):
    whole = pf.Target.from_numpyro(model, X, GROUPS)
    target = pf.Target.from_numpyro(model, X, GROUPS, size=50)
    assert isinstance(target.space, LargeDataSpace)
    u = jnp.linspace(-0.5, 0.7, target.dim)
    np.testing.assert_allclose(target(u), whole(u), rtol=1e-10)
    np.testing.assert_allclose(jax.grad(target)(u), jax.grad(whole)(u), rtol=1e-8)
    assert set(target.constrain(u)) == LATENT[model]
    np.testing.assert_allclose(target.unconstrain(target.constrain(u)), u, atol=1e-12)


@pytest.mark.parametrize("model", [two_plates, nested])
def test_a_random_row_of_several_plates_estimates_the_gradient_without_bias(model):
    target = pf.Target.from_numpyro(model, X, GROUPS, size=50)
    space = target.space
    assert isinstance(space, LargeDataSpace)
    u = jnp.linspace(-0.5, 0.7, target.dim)

    def estimate(u, row):
        z = target.unravel(u)
        return space.log_prior(z) + space.num_rows * space.log_likelihoods(z, row[None])[0]

    gradients = jax.jit(jax.vmap(jax.grad(estimate), (None, 0)))(u, jnp.arange(space.num_rows))
    assert np.std(gradients, axis=0).max() > 1.0
    np.testing.assert_allclose(np.mean(gradients, axis=0), jax.grad(target)(u), rtol=1e-8, atol=1e-8)
    # All rows are equally likely.
    assert space.rows.batches(7, jax.random.key(0)) == RandomNumbers(space.num_rows, 7)


def two_plates_one_empty(x):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("first", len(x), subsample_size=10) as i:
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=x[i])
    with numpyro.plate("second", len(x), subsample_size=10):
        pass


def without_rows(x):
    numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(x), subsample_size=10):
        pass


def uses_values(x):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0 if x[0] > 0 else 2.0))
    with numpyro.plate("rows", len(x), subsample_size=10) as i:
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=x[i])


def normalizes(x):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(x), subsample_size=10) as i:
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=x[i] - x[i].mean())


def normalizes_a_grid(x):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    table = x[:200].reshape(20, 10)
    with numpyro.plate("outer", 20, subsample_size=4, dim=-2) as i, numpyro.plate("inner", 10, subsample_size=4) as j:
        cells = table[i[:, None], j]
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=cells - cells.mean(1, keepdims=True))


def exchanges_axes(x):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    table = x[:100].reshape(10, 10)
    with numpyro.plate("outer", 10, subsample_size=4, dim=-2) as i, numpyro.plate("inner", 10, subsample_size=4) as j:
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=table[i][:, j].T)


def partly_observed(x):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(x), subsample_size=10) as i:
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=x[i], obs_mask=x[i] > 0)


def parameter_of_rows(x):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(x), subsample_size=10) as i:
        shift = numpyro.param("shift", jnp.zeros(len(x)), event_dim=0)
        numpyro.sample("x", dist.Normal(mean + shift, 1.0), obs=x[i])


def outside_array(x):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", 203, subsample_size=10) as i:
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=X[:, 0][i])


def discrete(x):
    with numpyro.plate("rows", len(x), subsample_size=10) as i:
        which = numpyro.sample("which", dist.Bernoulli(numpyro.sample("p", dist.Beta(1.0, 1.0))))
        numpyro.sample("x", dist.Normal(which, 1.0), obs=x[i])


def too_many(x):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("a", 10**5, subsample_size=4, dim=-2), numpyro.plate("b", 10**5, subsample_size=4):
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=0.0)


def only_a_factor(x):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", 203, subsample_size=4):
        numpyro.factor("f", -(mean**2))


def in_a_loop(x):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))

    def body(carry, row):
        with numpyro.plate("columns", 29, subsample_size=4) as i:
            numpyro.sample("x", dist.Normal(mean, 1.0), obs=row[i])
        return carry, None

    scan(body, None, x.reshape(7, 29))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (in_a_loop, "the plate columns is subsampled inside a scan"),
        (two_plates_one_empty, "the subsampled plate second has no observed site"),
        (only_a_factor, "the subsampled plate rows has no observed site"),
        (without_rows, "the subsampled plate rows has no observed site"),
        (uses_values, "may not use the values of its arguments"),
        (normalizes, "depends on the other rows"),
        (normalizes_a_grid, "the site x at one index of each of the subsampled plates outer, inner depends"),
        (exchanges_axes, "their axes those of the plates"),
        (partly_observed, "the sites x with obs_mask are inside the subsampled plate rows"),
        (parameter_of_rows, "the sites shift are numpyro.param"),
        (outside_array, "Data must be arrays of JAX"),
        (discrete, "the latent sites which are discrete"),
        (too_many, "10,000,000,000 tuples of indices"),
    ],
)
def test_models_whose_rows_are_not_independent_are_named(model, words):
    with pytest.raises(ValueError, match=words):
        pf.Target.from_numpyro(model, X[:, 0])


def masked_outside(x, size=None):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("few", 4):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=x[:4], obs_mask=jnp.array([True, False, True, True]))
    with numpyro.plate("rows", len(x), subsample_size=size) as i:
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=x[i])


def test_sites_outside_the_plate_may_be_partly_observed():
    whole, target = (pf.Target.from_numpyro(masked_outside, X[:, 0], size=size) for size in (None, 50))
    assert target.dim == whole.dim == 2
    u = jnp.array([0.3, -0.4])
    np.testing.assert_allclose(target(u), whole(u), rtol=1e-10)
    assert set(target.constrain(u)) == set(whole.constrain(u))
