"""Bijections onto boxes: finite and inside the box, also for points far out."""

import jax
import jax.numpy as jnp
import jax.random as jr
from numpyro.distributions import constraints

from pushforward import bijections as bj
from pushforward.testing import check_bijection


def test_onto_box(precision):
    ends = [constraints.real, constraints.positive, constraints.less_than(2.0), constraints.interval(-1.0, 3.0)]
    box = bj.OntoBox(ends)
    check_bijection(box, key=jr.key(0), scales=(0.0,))
    far = jnp.array([50.0, 300.0, -300.0, 60.0])
    x = jax.vmap(box.forward)(jnp.stack([far, -far]))
    assert jnp.isfinite(x).all()
    assert jnp.all((x[:, 1] > 0) & (x[:, 2] < 2) & (x[:, 3] > -1) & (x[:, 3] < 3))
