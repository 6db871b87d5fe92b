"""Which outputs depend on which inputs."""

import jax
import jax.numpy as jnp

from pushforward.posterior.spaces.dependence import dependence


def test_dependence_follows_operations_not_values():
    def fn(inputs):
        a, b, c = inputs
        return {
            "x": 0.0 * a + 1,
            "y": jnp.sin(b) * a,
            "z": jax.lax.cond(c > 0, lambda: 1.0, lambda: 2.0),
            "w": jnp.ones(2),
        }

    shapes, sources = dependence(fn, (1.0, 2.0, 3.0))
    assert shapes["w"].shape == (2,)
    assert dict(zip(sorted(shapes), sources, strict=True)) == {"w": set(), "x": {0}, "y": {0, 1}, "z": {2}}
