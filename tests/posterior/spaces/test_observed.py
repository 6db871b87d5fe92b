import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

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


def test_models_without_partly_observed_sites_keep_their_space():
    target = pf.Target.from_numpyro(lambda: numpyro.sample("x", dist.Normal().mask(jnp.array(True))))
    assert not isinstance(target.space, PartlyObserved) and target.dim == 1
