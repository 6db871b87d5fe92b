import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.posterior.latent import (
    BATCH,
    batch_size,
    has_supports,
    in_batches,
    latent_values,
    map_parts,
    part_size,
)


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


def test_batches_are_smaller_in_many_dimensions():
    assert batch_size(1) == batch_size(1024) == BATCH
    assert batch_size(1025) == BATCH // 2
    assert batch_size(10_000) == batch_size(10**9) == 256


def test_parts_stay_in_the_cache_of_a_processor(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert part_size(16) == BATCH
    assert part_size(175) == 256
    assert part_size(10_000) == part_size(10**9) == 64
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert part_size(175) == batch_size(175)


@pytest.mark.parametrize("num", [1, 256, 300, 512])
def test_parts_and_batches_give_the_values_of_all_points(num):
    points, sizes = np.random.default_rng(0).normal(size=(num, 20_000)), []

    def sums(part):
        sizes.append(len(part))
        return jnp.stack([part.sum(1), part[:, 0]], 1)

    found = in_batches(sums, points)
    np.testing.assert_allclose(found, np.stack([points.sum(1), points[:, 0]], 1))
    assert set(sizes) == {256}
    np.testing.assert_allclose(map_parts(sums, jnp.asarray(points)), found)
    # Parts are of one size, so 300 points are one part.
    size = part_size(20_000)
    assert sizes[-1] == (num if num % size else min(num, size))
