"""NumPyro models as targets."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import potential_energy

import pushforward as pf


def hierarchical(groups, x, y=None):
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(3)))
    correlation = numpyro.sample("correlation", dist.LKJCholesky(2, 1.0))
    upper = numpyro.sample("upper", dist.Uniform(1.0, 2.0))
    with numpyro.plate("groups", 3):
        offset = numpyro.sample("offset", dist.Normal(0, scale))
    mean = numpyro.deterministic("mean", offset[groups] + upper * x + weights[0] + correlation[1, 0])
    numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


@pytest.fixture
def hierarchical_target():
    data = np.array([0, 1, 2, 0]), np.array([0.1, 0.2, 0.3, 0.4])
    return pf.Target.from_numpyro(hierarchical, *data, y=np.array([1.0, 2.0, 0.5, 0.7])), data


def test_numpyro_density_is_numpyros(hierarchical_target):
    target, data = hierarchical_target
    assert target.dim == 1 + 2 + 1 + 1 + 3
    for key in jr.split(jr.key(0), 3):
        u = jr.normal(key, (target.dim,))
        kwargs = {"y": jnp.array([1.0, 2.0, 0.5, 0.7])}
        expected = -potential_energy(hierarchical, tuple(map(jnp.asarray, data)), kwargs, target.unravel(u))
        assert target(u) == pytest.approx(float(expected))


def test_numpyro_draws_have_all_sites(hierarchical_target):
    target, _ = hierarchical_target
    u = jr.normal(jr.key(1), (target.dim,))
    draw = target.constrain(u)
    assert set(draw) == {"scale", "weights", "correlation", "upper", "offset", "mean"}
    assert 1 < draw["upper"] < 2
    np.testing.assert_allclose(target.unconstrain(draw), u, atol=1e-9)
    # The same volume as without the model's code.
    assert target.log_volume(u) == pytest.approx(float(target.detached().log_volume(u)))
    for name, value in target.detached().constrain(u).items():
        np.testing.assert_allclose(value, draw[name])


def test_numpyro_dynamic_support():
    def model():
        top = numpyro.sample("top", dist.LogNormal(0.0, 1.0))
        numpyro.sample("below", dist.Uniform(0.0, top))

    target = pf.Target.from_numpyro(model)
    for key in jr.split(jr.key(0), 5):
        u = 2 * jr.normal(key, (2,))
        draw = target.constrain(u)
        assert 0 < draw["below"] < draw["top"]
        np.testing.assert_allclose(target.unconstrain(draw), u, atol=1e-6)
    with pytest.raises(ValueError, match="depends on another site"):
        target.detached()


def test_numpyro_model_that_looks_at_its_data():
    def model(groups):
        with numpyro.plate("groups", int(groups.max()) + 1):
            numpyro.sample("x", dist.Normal(0, 1))

    assert pf.Target.from_numpyro(model, np.array([0, 1, 2, 4])).dim == 5


def test_discrete_latent_is_named():
    def model():
        numpyro.sample("which", dist.Bernoulli(0.3))
        numpyro.sample("x", dist.Normal(0, 1))

    with pytest.raises(ValueError, match="which.*discrete"):
        pf.Target.from_numpyro(model)


def test_no_latent():
    with pytest.raises(ValueError, match="no latent"):
        pf.Target.from_numpyro(lambda: numpyro.sample("y", dist.Normal(0, 1), obs=1.0))


def test_subsampled_plate_is_named():
    def model():
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with numpyro.plate("rows", 10, subsample_size=3):
            numpyro.sample("y", dist.Normal(mu, 1), obs=jnp.zeros(3))

    with pytest.raises(ValueError, match="rows.*subsampled"):
        pf.Target.from_numpyro(model)
