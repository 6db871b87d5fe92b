"""NumPyro models with a subsampled plate: the density of all rows, in two forms of subsampling, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.posterior.spaces.large import LargeDataSpace

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


@pytest.mark.parametrize("model", [by_indices, by_subsample])
def test_the_density_is_that_of_the_model_without_subsampling(model):
    whole = pf.Target.from_numpyro(model, X, GROUPS)
    target = pf.Target.from_numpyro(model, X, GROUPS, size=50)
    assert isinstance(target.space, LargeDataSpace)
    u = jnp.linspace(-0.5, 0.7, target.dim)
    np.testing.assert_allclose(target(u), whole(u), rtol=1e-10)
    np.testing.assert_allclose(jax.grad(target)(u), jax.grad(whole)(u), rtol=1e-8)
    assert set(target.constrain(u)) == {"scale", "means"}
    np.testing.assert_allclose(target.unconstrain(target.constrain(u)), u)


def local(x):
    with numpyro.plate("rows", len(x), subsample_size=10) as i:
        numpyro.sample("x", dist.Normal(numpyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x[i])


def two_plates(x):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    for name in ("first", "second"):
        with numpyro.plate(name, len(x), subsample_size=10) as i:
            numpyro.sample(f"x_{name}", dist.Normal(mean, 1.0), obs=x[i])


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


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (local, "the latent sites z are inside the subsampled plate rows"),
        (two_plates, "the plates first, second are subsampled"),
        (without_rows, "the subsampled plate rows has no observed site"),
        (uses_values, "uses the values of its arguments"),
        (normalizes, "depends on the other rows"),
    ],
)
def test_models_whose_rows_are_not_independent_are_named(model, words):
    with pytest.raises(ValueError, match=words):
        pf.Target.from_numpyro(model, X[:, 0])
