import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from numpyro.infer.util import potential_energy

import pushforward as pf


def test_vector_target_is_its_density():
    target = pf.Target(lambda u: -0.5 * jnp.sum(u**2), jnp.zeros(3))
    assert target.dim == 3
    assert target(jnp.array([1.0, 2.0, 3.0])) == pytest.approx(-7.0)
    np.testing.assert_allclose(target.constrain(jnp.arange(3.0)), jnp.arange(3.0))


def test_supports_of_a_pytree_and_their_volumes():
    example = {"scale": jnp.array(1.0), "weights": jnp.full(3, 1 / 3), "rest": [jnp.zeros((2, 2)), jnp.array(0.5)]}
    support = {
        "scale": constraints.positive,
        "weights": constraints.simplex,
        "rest": [constraints.real, constraints.unit_interval],
    }

    def log_density(x):
        return (
            dist.Gamma(3.0, 2.0).log_prob(x["scale"])
            + dist.Dirichlet(jnp.ones(3) * 2).log_prob(x["weights"])
            + dist.Normal(0, 1).log_prob(x["rest"][0]).sum()
            + dist.Beta(2.0, 3.0).log_prob(x["rest"][1])
        )

    target = pf.Target(log_density, example, support)
    assert target.dim == 1 + 2 + 4 + 1
    u = jr.normal(jr.key(0), (target.dim,))
    draw = target.constrain(u)
    assert draw["scale"] > 0
    assert draw["weights"].sum() == pytest.approx(1.0)
    np.testing.assert_allclose(target.unconstrain(draw), u, atol=1e-10)
    # The volume element, where the constrained space is a real interval, against the automatic derivative.
    scale_only = pf.Target(lambda x: jnp.zeros(()), jnp.array(1.0), constraints.positive)
    at = jnp.array([0.3])
    slope = jax.grad(lambda u: scale_only.constrain(u))(at)[0]
    assert scale_only.log_volume(at) == pytest.approx(float(jnp.log(slope)))


def test_densities_integrate_to_one_over_unconstrained_space():
    target = pf.Target(lambda x: dist.Beta(2.0, 3.0).log_prob(x), jnp.array(0.5), constraints.unit_interval)
    grid = jnp.linspace(-30, 30, 20_001)[:, None]
    assert jnp.trapezoid(jnp.exp(jax.vmap(target)(grid)), grid[:, 0]) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("example", "support", "message"),
    [
        ({}, None, "empty"),
        (jnp.zeros(0), None, "not empty"),
        (jnp.array([1.0, jnp.nan]), None, "finite"),
        ({"a": jnp.array([jnp.inf])}, None, r"example\['a'\]"),
        (jnp.array([1j]), None, "real"),
        ({"a": "text"}, None, "real array"),
        ({"a": jnp.zeros(2)}, {"b": constraints.positive}, "matches the example"),
        (jnp.zeros(2), "positive", "constraints"),
        (jnp.zeros(2), constraints.positive_integer, "continuous"),
    ],
)
def test_bad_examples_and_supports(example, support, message):
    with pytest.raises(ValueError, match=message):
        pf.Target(lambda x: jnp.zeros(()), example, support)


def test_log_density_must_be_a_scalar():
    with pytest.raises(ValueError, match=r"scalar.*\(3,\)"):
        pf.Target(lambda x: x, jnp.zeros(3))


def test_example_outside_of_its_support_tells_the_shape():
    target = pf.Target(lambda x: -x, jnp.zeros(()), constraints.positive)
    assert jnp.isfinite(target.start).all()


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
