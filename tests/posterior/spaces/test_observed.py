import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

import pushforward as pf
from pushforward.posterior.spaces.observed import PartlyObserved


def model(fn, y, mask):
    loc = numpyro.sample("loc", dist.Normal(0, 1))
    numpyro.sample("y", fn(loc), obs=y, obs_mask=mask)


CASES = {
    "real": (lambda loc: dist.Normal(loc, 1).expand([3]), jnp.array([0.5, 1.0, 2.0]), np.array([True, False, True])),
    "interval": (lambda loc: dist.Beta(jnp.exp(loc), 2).expand([3]), jnp.full(3, 0.3), np.array([True, False, True])),
    "vectors": (
        lambda loc: dist.Dirichlet(jnp.exp(loc) * jnp.ones(3)).expand([2]),
        jnp.full((2, 3), 1 / 3),
        jnp.array([False, True]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_observed_entries_are_not_part_of_the_fit(name):
    """The density is that of the entries which are not observed, each with its own prior."""
    fn, y, mask = CASES[name]
    target = pf.Target.from_numpyro(model, fn, y, mask)
    missing = ~np.asarray(mask)
    number = int(missing.sum())
    assert isinstance(target.space, PartlyObserved)
    assert target.dim == 1 + number * (y[0].size - (name == "vectors"))
    u = jnp.linspace(-0.4, 0.6, target.dim)
    draw = target.constrain(u)
    np.testing.assert_allclose(target.unconstrain(draw), u, rtol=1e-9)
    np.testing.assert_allclose(draw["y"][mask], y[mask])
    rows = jnp.broadcast_to(fn(draw["loc"]).log_prob(draw["y"]), mask.shape)
    transform = dist.biject_to(fn(0.0).support)
    volumes = transform.log_abs_det_jacobian(transform.inv(draw["y"]), draw["y"])[missing].sum()
    assert target(u) == pytest.approx(dist.Normal(0, 1).log_prob(draw["loc"]) + rows.sum() + volumes)
    assert target.log_volume(u) == pytest.approx(volumes)
    np.testing.assert_allclose(target.detached().constrain(u)["y_unobserved"], draw["y_unobserved"])


@pytest.mark.parametrize("event", [dist.Bernoulli(0.3), dist.Categorical(jnp.array([0.2, 0.3, 0.5]))])
def test_discrete_entries_that_are_not_observed_are_summed_out(event):
    """The log-density has no constant of the observed entries: they would be a part of the evidence."""
    y, mask, w = jnp.array([1, 1, 0]), jnp.array([True, False, True]), jnp.array([0.3, 0.2, 0.1])

    def mixed():
        loc = numpyro.sample("loc", dist.Normal(0, 1))
        with numpyro.plate("rows", 3):
            k = numpyro.sample("y", event, obs=y, obs_mask=mask)
            numpyro.sample("w", dist.Normal(loc * k, 1), obs=w)

    target = pf.Target.from_numpyro(mixed)
    values = event.enumerate_support()

    def log_joint(k, row):
        return event.log_prob(k) + dist.Normal(0.7 * k, 1).log_prob(w[row])

    expected = dist.Normal(0, 1).log_prob(0.7) + log_joint(1, 0) + log_joint(0, 2)
    expected += jax.nn.logsumexp(jax.vmap(lambda k: log_joint(k, 1))(values))
    assert target(jnp.array([0.7])) == pytest.approx(float(expected))
    assert target.log_volume(jnp.array([0.7])) == pytest.approx(0)


@pytest.mark.parametrize("inside", [True, False])
def test_masks_inside_of_each_other(inside):
    """Entries that are observed stay so where another mask leaves them out of the density."""
    y, mask, counted = jnp.array([1.0, 0.0, 2.0, 7.0]), np.arange(4) != 1, np.arange(4) != 3

    def model():
        m = numpyro.sample("m", dist.Normal(0, 1))
        fn = dist.Normal(m, 1.0)
        with numpyro.plate("rows", 4), handlers.mask(mask=True if inside else counted):
            numpyro.sample("y", fn.mask(counted) if inside else fn, obs=y, obs_mask=mask)

    target = pf.Target.from_numpyro(model)
    assert target.coordinate_names() == ["m", "y_unobserved[0]"]
    u = jnp.array([0.3, -0.2])
    expected = dist.Normal(0, 1).log_prob(0.3) + dist.Normal(0.3, 1).log_prob(jnp.array([1.0, -0.2, 2.0])).sum()
    assert target(u) == pytest.approx(float(expected))


def test_discrete_sites_of_infinite_support_are_named():
    def counts():
        rate = numpyro.sample("rate", dist.Gamma(2, 1))
        with numpyro.plate("rows", 3):
            numpyro.sample("y", dist.Poisson(rate), obs=jnp.arange(3), obs_mask=jnp.array([True, False, True]))

    with pytest.raises(ValueError, match=r"sites y with obs_mask are discrete.*obs=y\[mask\]"):
        pf.Target.from_numpyro(counts)


def test_models_without_partly_observed_sites_keep_their_space():
    target = pf.Target.from_numpyro(lambda: numpyro.sample("x", dist.Normal().mask(jnp.array(True))))
    assert not isinstance(target.space, PartlyObserved) and target.dim == 1


def test_log_volume_where_the_support_depends_on_another_site():
    def model():
        top = numpyro.sample("top", dist.LogNormal(0, 1))
        numpyro.sample("y", dist.Uniform(0, top).expand([3]), obs=jnp.full(3, 0.1), obs_mask=np.arange(3) != 1)

    target = pf.Target.from_numpyro(model)
    u = jnp.array([0.7, -0.3])
    slope = jax.grad(lambda v: target.constrain(u.at[1].set(v))["y"][1])(u[1])
    assert target.coordinate_names()[1] == "y_unobserved[0]"
    assert target.log_volume(u) == pytest.approx(float(u[0] + jnp.log(slope)))


def test_files_of_older_versions():
    fields = {"inner": None, "kept": {}, "fixed": {}, "log_num_values": 0.0}
    assert PartlyObserved.upgraded_fields({**fields, "fixed_log_volume": 0.3}) == fields
