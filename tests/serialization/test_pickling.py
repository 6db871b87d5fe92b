"""Flows and results can be pickled and copied, although they hold functions that pickle cannot store."""

import copy
import pickle

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.density.result import NO_HISTORY
from vae_cases import small

FLOW = pf.flows.realnvp(2, key=jr.key(0), num_layers=1, hidden=(4,))
OBJECTS = {
    "flow": FLOW,
    "bijection": FLOW.bijection,
    "base": pf.Learnable(dist.Normal(jnp.zeros(2), 1.0).to_event(1)),
    "density": pf.Density.of(FLOW),
    "VAE": small(),
    "flow as a distribution": pf.FlowDistribution(FLOW),
}
COPIES = {"pickle": lambda x: pickle.loads(pickle.dumps(x)), "deepcopy": copy.deepcopy, "copy": copy.copy}


def posterior():
    target = pf.Target(lambda x: -0.5 * jnp.sum(x["a"] ** 2), {"a": jnp.zeros(2)})
    diagnostics = pf.Diagnostics(*[0.0] * 7, 4, "good", ())
    pool = jnp.arange(8.0).reshape(4, 2)
    return pf.Posterior(target, FLOW, diagnostics, NO_HISTORY, pool, jnp.full(4, 0.25))


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", OBJECTS)
def test_copies_are_equal(name, how):
    copied = COPIES[how](OBJECTS[name])
    assert type(copied) is type(OBJECTS[name]) and eqx.tree_equal(copied, OBJECTS[name])


@pytest.mark.parametrize("how", COPIES)
def test_posteriors_keep_what_files_keep(how):
    """A pickle has draws, but not the model's density; a copy has both."""
    whole = posterior()
    copied = COPIES[how](whole)
    draws = [p.sample(jr.key(0), 3)["a"] for p in (whole, copied)]
    np.testing.assert_array_equal(*draws)
    assert (copied.target.space.density is None) == (how == "pickle")


def test_a_deep_copy_has_its_own_arrays_of_numpy():
    density = pf.Density.of(FLOW)
    assert copy.copy(density).history.losses is density.history.losses
    assert copy.deepcopy(density).history.losses is not density.history.losses


def test_what_cannot_be_pickled_is_named():
    flow = pf.flows.realnvp(2, key=jr.key(0), num_layers=1, hidden=(4,), activation=lambda x: jnp.tanh(x))
    with pytest.raises(ValueError, match=r"cannot save \.bijection.*lambda"):
        pickle.dumps(flow)
    assert copy.deepcopy(flow).bijection is not flow.bijection
