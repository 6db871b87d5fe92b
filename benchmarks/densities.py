"""Two-dimensional toy densities with samplers and entropies, which several benchmarks share.

The definitions are those of FFJORD's toy data (Grathwohl et al., 2019, https://arxiv.org/abs/1810.01367). The mean of
-log q over fresh draws, minus the entropy, is KL(p || q) in nats.
"""

import jax.numpy as jnp
import jax.random as jr
import numpy as np


def eight_gaussians(key, n):
    which, noise = jr.split(key)
    angle = jr.randint(which, (n,), 0, 8) * jnp.pi / 4
    return (4 * jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1) + 0.5 * jr.normal(noise, (n, 2))) / 1.414


def moons(key, n):
    place, which, noise = jr.split(key, 3)
    t = jr.uniform(place, (n,), maxval=jnp.pi)
    upper = jr.bernoulli(which, 0.5, (n,))
    x = jnp.where(upper, jnp.cos(t), 1 - jnp.cos(t))
    y = jnp.where(upper, jnp.sin(t), 0.5 - jnp.sin(t))
    return 2 * (jnp.stack([x, y], 1) + 0.1 * jr.normal(noise, (n, 2))) + jnp.array([-1.0, -0.2])


def two_spirals(key, n):
    place, offset, which, noise = jr.split(key, 4)
    t = jnp.sqrt(jr.uniform(place, (n,))) * 3 * jnp.pi
    arm = jnp.stack([-jnp.cos(t) * t, jnp.sin(t) * t], 1) + 0.5 * jr.uniform(offset, (n, 2))
    sign = jnp.where(jr.bernoulli(which, 0.5, (n, 1)), 1.0, -1.0)
    return sign * arm / 3 + 0.1 * jr.normal(noise, (n, 2))


def circles(key, n):
    which, place, noise = jr.split(key, 3)
    radius = jnp.where(jr.bernoulli(which, 0.5, (n,)), 3.0, 1.5)
    return _around(radius, jr.uniform(place, (n,))) + 0.24 * jr.normal(noise, (n, 2))


def swiss_roll(key, n):
    place, noise = jr.split(key)
    t = 1.5 * (1 + 2 * jr.uniform(place, (n,)))
    return (_around(jnp.pi * t, t / 2) + jr.normal(noise, (n, 2))) / 5


def checkerboard(key, n):
    first, second, third = jr.split(key, 3)
    x = jr.uniform(first, (n,), minval=-2, maxval=2)
    y = jr.uniform(second, (n,)) - 2 * jr.randint(third, (n,), 0, 2) + jnp.floor(x) % 2
    return 2 * jnp.stack([x, y], 1)


def rings(key, n):
    which, place, noise = jr.split(key, 3)
    radius = 0.75 * (1 + jr.randint(which, (n,), 0, 4))
    return _around(radius, jr.uniform(place, (n,))) + 0.08 * jr.normal(noise, (n, 2))


def _around(radius, turns):
    """The points at these radii and angles, in turns."""
    return radius[:, None] * jnp.stack([jnp.cos(2 * jnp.pi * turns), jnp.sin(2 * jnp.pi * turns)], 1)


# Samplers and entropies in nats; those of curves with noise are by quadrature over the curve.
DENSITIES = {
    "8 gaussians": (eight_gaussians, 2.8319),
    "moons": (moons, 2.3939),
    "2 spirals": (two_spirals, 2.6454),
    "circles": (circles, 3.2681),
    "swiss roll": (swiss_roll, 2.6696),
    "checkerboard": (checkerboard, np.log(32)),
    "rings": (rings, 2.6232),
}
