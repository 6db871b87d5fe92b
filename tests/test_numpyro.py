"""Flows in NumPyro: as priors, likelihoods, guides and reparametrizations for NUTS."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal
from numpyro.infer.reparam import NeuTraReparam
from numpyro.infer.util import log_density

import pushforward as pf
from pushforward.bijections import Elementwise, Exp, Planar


def model(y):
    scale = numpyro.sample("scale", dist.Gamma(2.0, 1.0))
    mean = numpyro.sample("mean", dist.Normal(0, 3).expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal(mean, scale).to_event(1), obs=y)


Y = jnp.array([[1.0, -2.0], [2.0, -1.0], [0.5, -1.2], [1.1, -1.9]])


def test_distribution_is_the_flow():
    flow = pf.flows.nsf(2, num_layers=2, hidden=(8,), cond_dim=3, key=jr.key(0))
    condition = jr.normal(jr.key(1), (5, 3))
    d = pf.FlowDistribution(flow, condition)
    assert d.batch_shape == (5,) and d.event_shape == (2,)
    x, intermediates = d.sample_with_intermediates(jr.key(2), (4,))
    assert x.shape == (4, 5, 2)
    np.testing.assert_allclose(d.log_prob(x, intermediates), flow.log_prob(x, condition), rtol=1e-9)
    np.testing.assert_allclose(d.log_prob(x), flow.log_prob(x, condition), rtol=1e-12)
    assert d.expand((7, 5)).sample(jr.key(3)).shape == (7, 5, 2)
    leaves = jax.tree.leaves(d)
    assert jax.tree.unflatten(jax.tree.structure(d), leaves).log_prob(x).shape == (4, 5)
    with pytest.raises(ValueError, match="needs a condition"):
        pf.FlowDistribution(flow)


def test_distribution_declares_its_support_and_serves_as_prior():
    flow = pf.Flow(dist.Normal(0, 1).expand([3]).to_event(1), Elementwise(Exp(), 3))
    d = pf.FlowDistribution(flow, validate_args=True)
    assert d.support.event_dim == 1 and bool(d.support(jnp.ones(3))) and not bool(d.support(-jnp.ones(3)))
    value = jnp.array([0.3, 1.0, 7.0])

    def uses_it():
        numpyro.sample("x", d)

    expected = dist.LogNormal(0, 1).log_prob(value).sum()
    np.testing.assert_allclose(log_density(uses_it, (), {}, {"x": value})[0], expected, rtol=1e-12)


def test_transform_agrees_with_the_bijection():
    bijection = Planar(3, key=jr.key(0))
    t = pf.BijectionTransform(bijection)
    u = jr.normal(jr.key(1), (4, 2, 3))
    x, log_det = t.call_with_intermediates(u)
    np.testing.assert_allclose(t.inv(x), u, atol=1e-8)
    np.testing.assert_allclose(t.log_abs_det_jacobian(u, x), log_det, rtol=1e-12)
    moved = dist.TransformedDistribution(dist.Normal(0, 1).expand([3]).to_event(1), t)
    flow = pf.Flow(dist.Normal(0, 1).expand([3]).to_event(1), bijection)
    np.testing.assert_allclose(moved.log_prob(x), flow.log_prob(x), rtol=1e-7)


def test_guide_trains_by_svi_and_gives_nuts_its_coordinates():
    guide = pf.AutoFlow(
        model, lambda dim, key: pf.flows.realnvp(dim, num_layers=4, hidden=(16,), key=key), key=jr.key(0)
    )
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 1500))
    svi = SVI(model, guide, optimizer, Trace_ELBO(num_particles=16))
    result = svi.run(jr.key(0), 1500, Y, progress_bar=False)
    assert result.losses[-100:].mean() < result.losses[:20].mean()
    draws = guide.sample_posterior(jr.key(1), result.params, sample_shape=(2000,))
    assert draws["scale"].shape == (2000,) and draws["mean"].shape == (2000, 2) and draws["scale"].min() > 0
    middle = guide.median(result.params)
    np.testing.assert_allclose(middle["mean"], jnp.median(draws["mean"], axis=0), atol=0.1)
    assert guide.quantiles(result.params, [0.1, 0.9])["mean"].shape == (2, 2)
    with pytest.raises(ValueError, match="between 0 and 1"):
        guide.quantiles(result.params, [2.0])
    flow = guide.flow(result.params)
    assert flow.shape == guide.get_posterior(result.params).event_shape == (3,)
    neutra = NeuTraReparam(guide, result.params)
    mcmc = MCMC(NUTS(neutra.reparam(model)), num_warmup=200, num_samples=500, progress_bar=False)
    mcmc.run(jr.key(3), Y)
    exact = neutra.transform_sample(mcmc.get_samples()["auto_shared_latent"])
    np.testing.assert_allclose(exact["mean"].mean(0), draws["mean"].mean(0), atol=0.15)
    np.testing.assert_allclose(exact["mean"].std(0), draws["mean"].std(0), rtol=0.3)


def test_draws_with_gradients_that_are_not_finite_do_not_end_a_training():
    def half():
        x = numpyro.sample("x", dist.Normal(0, 1))
        numpyro.factor("cliff", jnp.where(x < 0, jnp.nan, 0.0) * x)

    guide = pf.AutoFlow(half, pf.flows.nsf, key=jr.key(0))
    svi = SVI(half, guide, optax.adam(1e-2), Trace_ELBO(num_particles=4))
    state = svi.init(jr.key(0))
    for _ in range(5):
        state, _ = svi.update(state)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(svi.get_params(state)))


def eight_schools():
    effects = jnp.array([28.0, 8, -3, 7, -1, 1, 18, 12])
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfCauchy(5))
    theta = numpyro.sample("theta", dist.Normal(mu, tau).expand([8]).to_event(1))
    numpyro.sample("y", dist.Normal(theta, jnp.array([15.0, 10, 16, 11, 9, 11, 10, 18])).to_event(1), obs=effects)


def test_the_learning_rates_of_gaussian_guides_serve():
    """With Adam at 0.01, where unscaled couplings diverge in a few steps."""
    bounds = []
    for guide in (pf.AutoFlow(eight_schools, key=jr.key(0)), AutoMultivariateNormal(eight_schools)):
        svi = SVI(eight_schools, guide, optax.adam(1e-2), Trace_ELBO())
        result = svi.run(jr.key(0), 1500, progress_bar=False)
        assert jnp.isfinite(result.losses).all()
        evaluate = Trace_ELBO(num_particles=2000).loss
        bounds.append(-float(evaluate(jr.key(1), result.params, eight_schools, guide)))
    assert bounds[0] > bounds[1] - 0.5


def test_guide_refuses_a_flow_of_another_shape():
    guide = pf.AutoFlow(model, lambda dim, key: pf.flows.realnvp(dim + 1, key=key), key=jr.key(0))
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        SVI(model, guide, optax.adam(1e-2), Trace_ELBO()).init(jr.key(0), Y)
