import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import pushforward as pf
from pushforward.posterior.latent import has_supports, latent_values


def model():
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    x = numpyro.sample("x", dist.Normal(0, scale).expand([2]).to_event(1))
    numpyro.deterministic("total", x.sum())


def test_supports_of_all_targets():
    assert has_supports(pf.Target.from_numpyro(model))
    assert not has_supports(pf.Target(lambda x: -(x**2).sum(), jnp.zeros(3)))
    assert not has_supports(pf.Target(lambda x: -(x**2).sum(), jnp.zeros(3), dist.constraints.real_vector))


def test_latent_values_leave_out_deterministic_sites():
    u = np.random.default_rng(0).normal(size=(7, 3))
    np.testing.assert_allclose(latent_values(pf.Target.from_numpyro(model), u), np.c_[np.exp(u[:, :1]), u[:, 1:]])
