"""Replays of NumPyro models at chosen indices: the values at some indices are those of the whole at these indices."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from pushforward.posterior.spaces.replay import Replay

TABLE = jnp.asarray(np.random.default_rng(0).normal(size=(6, 7, 2)))


def model(table):
    with numpyro.plate("inner", 7, subsample_size=3, dim=-1) as j:
        numpyro.sample("y", dist.Normal(numpyro.sample("z", dist.Normal()), 1.0), obs=table[0, j, 0])
        with numpyro.plate("outer", 6, subsample_size=2, dim=-2) as i:
            numpyro.sample("x", dist.Normal(table[i[:, None], j], 1.0).to_event(1), obs=jnp.ones(2))


# Some indices, some with all of the other plate, and all: then the plates have no scale.
@pytest.mark.parametrize(
    ("outer", "inner"), [([5, 0, 2], [1, 1, 6, 3]), (range(6), [1, 1, 6, 3]), ([5, 0], range(7)), (range(6), range(7))]
)
def test_values_have_the_axes_of_the_plates_in_their_order(outer, inner):
    replay = Replay(model, (("outer", 6), ("inner", 7)), (("z", (("inner", -1),)),), (TABLE,), {}, {})
    z = jnp.linspace(-1.0, 1.0, 7)
    outer, inner = jnp.array(outer), jnp.array(inner)
    found = replay({"z": z}, {"outer": outer, "inner": inner})
    whole = dist.Normal(TABLE, 1.0).log_prob(1.0).sum(-1)
    np.testing.assert_allclose(found["x"], whole[outer[:, None], inner], rtol=1e-12)
    np.testing.assert_allclose(found["y"], dist.Normal(z, 1.0).log_prob(TABLE[0, :, 0])[inner], rtol=1e-12)
